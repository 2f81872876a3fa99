"""Of two processes that fetch one archive, the second is told of the first; a dead process blocks nobody."""

import os
import re
import signal
import tarfile
import time
from contextlib import contextmanager
from functools import partial

import image_files
import pytest
from file_server import Server

from emc2_lite.locking import Locked
from emc2_lite.vision import downloads
from emc2_lite.vision.downloads import fetch_archive

NAME = "x.tar.gz"
DONE, REFUSED, FAILED = 0, 3, 1


@pytest.fixture
def server(tmp_path, monkeypatch):
    image_files.stl10(tmp_path / "made")
    monkeypatch.setattr(downloads, "BLOCK", 50_000)
    with Server() as server:
        server.content, server.md5 = image_files.tar_of(tmp_path / "made", "stl10_binary")
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    folder = tmp_path / "data"
    return partial(
        fetch_archive, server.url, folder, NAME, server.md5, "stl10_binary", folder / "stl10_binary" / "train_X.bin"
    )


def child(work):
    """The number of a process that does the work, and ends with `DONE`, `REFUSED` or `FAILED`."""
    number = os.fork()
    if number == 0:
        try:
            work()
            os._exit(DONE)
        except Locked:
            os._exit(REFUSED)
        finally:
            os._exit(FAILED)
    return number


def end_of(number):
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def arrived(folder):
    part = folder / f"{NAME}.part"
    return part.exists() and part.stat().st_size >= 50_000


def is_whole(folder, made):
    files = sorted(path.name for path in (folder / "stl10_binary").iterdir())
    same = all((folder / "stl10_binary" / name).read_bytes() == (made / name).read_bytes() for name in files)
    return same and len(files) == 5 and sorted(path.name for path in folder.iterdir()) == ["stl10_binary", NAME]


def test_a_second_download_is_refused_and_the_first_is_undisturbed(server, fetch, tmp_path):
    server.waits_at = 120_000
    first = child(fetch)
    wait_for(lambda: arrived(tmp_path / "data"))
    sentence = f"process {first} on {os.uname().nodename} is at work on the download of {NAME} in {tmp_path}/data: wait"
    with pytest.raises(Locked, match=re.escape(sentence)):
        fetch()
    server.go_on.set()
    assert end_of(first) == DONE
    assert is_whole(tmp_path / "data", tmp_path / "made" / "stl10_binary")
    assert server.asked == [None]


def test_a_killed_download_blocks_nobody_and_is_continued(server, fetch, tmp_path):
    server.waits_at = 120_000
    first = child(fetch)
    wait_for(lambda: arrived(tmp_path / "data"))
    os.kill(first, signal.SIGKILL)
    assert end_of(first) == -signal.SIGKILL
    server.waits_at = None
    size = (tmp_path / "data" / f"{NAME}.part").stat().st_size
    fetch()
    assert is_whole(tmp_path / "data", tmp_path / "made" / "stl10_binary")
    assert server.asked == [None, f"bytes={size}-"]


def test_one_of_many_downloads_at_once_does_the_work(server, fetch, tmp_path):
    server.waits_at = 120_000
    processes = [child(fetch) for _ in range(6)]
    ends = []
    wait_for(lambda: ends.append(os.waitpid(-1, os.WNOHANG)) or sum(number in processes for number, _ in ends) == 5)
    server.go_on.set()
    refused = {number: os.waitstatus_to_exitcode(status) for number, status in ends if number in processes}
    assert set(refused.values()) == {REFUSED}
    assert end_of((set(processes) - set(refused)).pop()) == DONE
    assert is_whole(tmp_path / "data", tmp_path / "made" / "stl10_binary")
    assert server.asked == [None]


def test_nobody_else_unpacks_while_one_unpacks(fetch, tmp_path, monkeypatch):
    unpack, refused = tarfile.TarFile.extractall, []

    def unpack_slowly(*arguments, **settings):
        with pytest.raises(Locked):
            fetch()
        refused.append(True)
        unpack(*arguments, **settings)

    monkeypatch.setattr(tarfile.TarFile, "extractall", unpack_slowly)
    fetch()
    assert refused == [True]
    assert is_whole(tmp_path / "data", tmp_path / "made" / "stl10_binary")


def test_what_another_process_has_just_unpacked_is_left_alone(server, fetch, tmp_path, monkeypatch):
    """The other process ends between this one's look for the images and its lock."""
    wanted, held = tmp_path / "data" / "stl10_binary" / "train_X.bin", downloads.locked

    @contextmanager
    def late(path, work):
        wanted.parent.mkdir()
        wanted.write_bytes(b"of the other process")
        with held(path, work):
            yield

    monkeypatch.setattr(downloads, "locked", late)
    fetch()
    assert wanted.read_bytes() == b"of the other process"
    assert server.asked == []
