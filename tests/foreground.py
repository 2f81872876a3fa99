"""A process that Ctrl-C reaches, as in a terminal."""

import signal
import subprocess


def in_the_foreground(command: list[str]) -> subprocess.Popen:
    """Start the command with SIGINT at its default: a shell starts what it runs in the background without it."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
