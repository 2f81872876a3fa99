"""Of two processes that fetch one archive, the second is told of the first; a dead process blocks nobody."""

import os
import re
import signal
import sys
import tarfile
import time
from contextlib import contextmanager
from functools import partial

import image_files
import pytest
from file_server import Server
from processes import started

from emc2_lite.locking import Locked
from emc2_lite.vision import downloads
from emc2_lite.vision.downloads import fetch_archive

NAME = "x.tar.gz"
DONE, REFUSED = 0, 3
SMALL_BLOCK = 50_000


@pytest.fixture
def server(tmp_path, monkeypatch):
    image_files.stl10(tmp_path / "made")
    monkeypatch.setattr(downloads, "BLOCK", SMALL_BLOCK)
    with Server() as server:
        server.content, server.md5 = image_files.tar_of(tmp_path / "made", "stl10_binary")
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    folder = tmp_path / "data"
    return partial(
        fetch_archive, server.url, folder, NAME, server.md5, "stl10_binary", folder / "stl10_binary" / "train_X.bin"
    )


def child(fetch):
    """A process that fetches, and ends with `DONE`, `REFUSED` or another status."""
    return started(partial(fetch_in_small_blocks, fetch))


def fetch_in_small_blocks(fetch):
    downloads.BLOCK = SMALL_BLOCK
    try:
        fetch()
    except Locked:
        sys.exit(REFUSED)


def end_of(process):
    process.join()
    return process.exitcode


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def arrived(folder):
    part = folder / f"{NAME}.part"
    return part.exists() and part.stat().st_size >= SMALL_BLOCK


def is_whole(folder, made):
    files = sorted(path.name for path in (folder / "stl10_binary").iterdir())
    same = all((folder / "stl10_binary" / name).read_bytes() == (made / name).read_bytes() for name in files)
    return same and len(files) == 5 and sorted(path.name for path in folder.iterdir()) == ["stl10_binary", NAME]


def test_a_second_download_is_refused_and_the_first_is_undisturbed(server, fetch, tmp_path):
    server.waits_at = 120_000
    first = child(fetch)
    wait_for(lambda: arrived(tmp_path / "data"))
    sentence = (
        f"process {first.pid} on {os.uname().nodename} is at work on the download of {NAME} in {tmp_path}/data: wait"
    )
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
    first.kill()
    assert end_of(first) == -signal.SIGKILL
    server.waits_at = None
    size = (tmp_path / "data" / f"{NAME}.part").stat().st_size
    fetch()
    assert is_whole(tmp_path / "data", tmp_path / "made" / "stl10_binary")
    assert server.asked == [None, f"bytes={size}-"]


def test_one_of_many_downloads_at_once_does_the_work(server, fetch, tmp_path):
    server.waits_at = 120_000
    processes = [child(fetch) for _ in range(6)]
    wait_for(lambda: sum(process.exitcode is not None for process in processes) == 5)
    server.go_on.set()
    assert sorted(end_of(process) for process in processes) == [DONE] + 5 * [REFUSED]
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
