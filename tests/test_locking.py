"""One process per folder: the lock names its process and ends with that process."""

import os
import re
import signal
import subprocess
import sys

import pytest

from emc2_lite.locking import Locked, locked

HOLDER = """
import sys, time
from pathlib import Path
from emc2_lite.locking import locked
with locked(Path(sys.argv[1]), "the work"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / ".lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_with_the_number_of_the_first(holder, tmp_path):
    words = f"process {holder.pid} on {os.uname().nodename} is at work on the work: wait until it ends, or end it"
    with pytest.raises(Locked, match=re.escape(words)), locked(tmp_path / ".lock", "the work"):
        pass
    assert (tmp_path / ".lock").exists()


def test_a_lock_ends_with_its_process(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock", "the work"):
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
    assert not (tmp_path / ".lock").exists()


def test_the_same_process_is_refused_too(tmp_path):
    with locked(tmp_path / ".lock", "the work"):
        with pytest.raises(Locked, match=f"process {os.getpid()} "), locked(tmp_path / ".lock", "the work"):
            pass
        assert (tmp_path / ".lock").exists()


TAKER = """
import sys, time
from pathlib import Path
from emc2_lite.locking import Locked, locked
folder = Path(sys.argv[1])
for turn in range(300):
    try:
        with locked(folder / ".lock", "the work"):
            (folder / "alone").mkdir()  # fails if another process holds the lock
            (folder / "alone").rmdir()
    except Locked:
        time.sleep(0.0002)
"""


def test_two_processes_never_hold_the_lock_at_once(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", TAKER, tmp_path]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4


def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("emc2_lite.locking.fcntl.flock", refuse)
    warned = pytest.warns(UserWarning, match="cannot be locked: let no second process write there")
    with warned, locked(tmp_path / ".lock", "the work"):
        assert (tmp_path / ".lock").exists()
