"""A process that Ctrl-C reaches, as in a terminal."""

import signal
import subprocess


def in_the_foreground(command: list[str]) -> subprocess.Popen:
    """Start the command with the default handler of SIGINT; a shell ignores SIGINT in its background commands."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
