"""Downloads from a local server are continued, checked, and unpacked whole or not at all."""

import errno
import hashlib
import http.client
import io
import re
import ssl
import tarfile

import image_files
import numpy as np
import pytest
from click.testing import CliRunner
from file_server import CONTENT, MD5, Server
from torchvision.datasets import CIFAR10, STL10

from emc2_lite.cli import main
from emc2_lite.vision import load_images, load_stl10
from emc2_lite.vision.datasets import fetch
from emc2_lite.vision.downloads import download, fetch_archive


@pytest.fixture
def server():
    with Server() as server:
        yield server


def test_a_file_arrives_and_no_part_is_left(server, tmp_path):
    download(server.url, tmp_path / "new" / "file.bin", MD5)
    assert (tmp_path / "new" / "file.bin").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.bin"]
    assert server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_continues_or_begins_again(server, tmp_path, ranges):
    server.ranges, server.breaks_at = ranges, 700_000
    path = tmp_path / "file.bin"
    with pytest.raises(
        ConnectionError, match=r"could not be fetched .*, 0\.7 MB are in .*file\.bin\.part: the same command"
    ):
        download(server.url, path, MD5)
    assert not path.exists()
    download(server.url, path, MD5)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=700000-"]


def test_a_download_may_break_again_and_again(server, tmp_path):
    for server.breaks_at in (700_000, 1_000_000, 1_200_000):
        with pytest.raises(ConnectionError, match=rf"{server.breaks_at / 1e6:.1f} MB are in"):
            download(server.url, tmp_path / "file.bin", MD5)
    download(server.url, tmp_path / "file.bin", MD5)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=700000-", "bytes=1000000-", "bytes=1200000-"]


def test_a_part_that_is_already_whole_is_taken(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "file.bin", MD5)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(
        ValueError, match=f"arrived with checksum [0-9a-f]{{32}}, and {MD5} was expected; it is deleted"
    ):
        download(server.url, tmp_path / "file.bin", MD5)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_file_is_refused(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"z" * 1000)
    with pytest.raises(ValueError, match="arrived with checksum"):
        download(server.url, tmp_path / "file.bin", MD5)
    download(server.url, tmp_path / "file.bin", MD5)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_server_that_refuses_or_is_not_there_is_named(server, tmp_path):
    server.status = 404
    with pytest.raises(ConnectionError, match=re.escape(f"{server.url} answers 404 Not Found")):
        download(server.url, tmp_path / "file.bin", MD5)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(ConnectionError, match=r"could not be fetched .*the same command goes on from there"):
        download(server.url, tmp_path / "file.bin", MD5)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_is_unpacked_whole_or_not_at_all(server, tmp_path, monkeypatch):
    images, _ = image_files.stl10(tmp_path / "made")
    server.content, md5 = image_files.tar_of(tmp_path / "made", "stl10_binary")
    monkeypatch.setattr(STL10, "url", server.url)
    monkeypatch.setattr(STL10, "tgz_md5", md5)
    folder = tmp_path / "data"
    read = load_images("stl10", "train", folder, samples=2, download=True)
    assert np.array_equal(read.images.numpy(), images[:2])
    assert sorted(path.name for path in folder.iterdir()) == ["stl10_binary", STL10.filename]
    load_stl10("test", folder, count=2, download=True)
    assert len(server.asked) == 1

    (folder / "stl10_binary" / "train_X.bin").unlink()
    load_stl10("train", folder, count=2, download=True)  # from the archive, which is still there
    assert len(server.asked) == 1

    (folder / STL10.filename).write_bytes(server.content[: len(server.content) // 2])
    (folder / "stl10_binary" / "train_X.bin").unlink()
    with pytest.raises(
        ValueError, match=rf"{STL10.filename} has checksum [0-9a-f]{{32}}, and {md5} was expected: .*; delete it, and"
    ):
        load_stl10("train", folder, count=2, download=True)
    assert sorted(path.name for path in folder.iterdir()) == ["stl10_binary", STL10.filename]


def test_an_archive_is_kept_for_the_next_machine_and_taken_from_there(server, tmp_path, monkeypatch):
    image_files.stl10(tmp_path / "made")
    server.content, md5 = image_files.tar_of(tmp_path / "made", "stl10_binary")
    monkeypatch.setattr(STL10, "url", server.url)
    monkeypatch.setattr(STL10, "tgz_md5", md5)
    drive = tmp_path / "drive"
    for machine in ("first", "second"):
        command = ["fetch", "stl10", "--folder", str(tmp_path / machine), "--keep", str(drive)]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"stl10 is in {tmp_path / machine}, its archive in {drive}\n"
        assert len(load_stl10("train", tmp_path / machine, count=2)) == 2
        assert [path.name for path in drive.iterdir()] == [STL10.filename]
    assert len(server.asked) == 1

    (drive / STL10.filename).write_bytes(server.content[:1000])  # the upload was cut short
    refused = CliRunner().invoke(main, ["fetch", "stl10", "--folder", str(tmp_path / "third"), "--keep", str(drive)])
    assert refused.exit_code == 1 and "it is damaged or cut short; delete it, and the same command" in refused.output
    (drive / STL10.filename).unlink()
    fetch("stl10", tmp_path / "third", drive)
    assert (drive / STL10.filename).read_bytes() == server.content and len(server.asked) == 2

    (tmp_path / "third" / STL10.filename).unlink()  # as a user does who wants the room
    elsewhere = tmp_path / "another drive"
    result = CliRunner().invoke(main, ["fetch", "stl10", "--folder", str(tmp_path / "third"), "--keep", str(elsewhere)])
    assert result.exit_code == 0 and f"Its archive was deleted, so that none is in {elsewhere}" in result.stdout


def test_cifar10_is_fetched_once_and_read(server, tmp_path, monkeypatch):
    images, _ = image_files.cifar10(tmp_path / "made", monkeypatch)
    server.content, md5 = image_files.tar_of(tmp_path / "made", CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "url", server.url)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5)
    for part, expected in (("train", images[:15]), ("test", images[15:])):
        read = load_images("cifar10", part, tmp_path / "data", download=True)
        assert np.array_equal(read.images.numpy(), expected)
    assert len(server.asked) == 1


def test_an_archive_cannot_write_outside_its_folder(server, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("../escaped.txt")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"text"))
    server.content = buffer.getvalue()
    md5 = hashlib.md5(server.content).hexdigest()
    with pytest.raises(tarfile.OutsideDestinationError):
        fetch_archive(server.url, tmp_path / "data", "x.tar.gz", md5, "inside", tmp_path / "data" / "inside")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "x.tar.gz"]


FULL = OSError(errno.ENOSPC, "No space left on device")


def fails(error):
    def call(*_, **__):
        raise error

    return call


def test_a_full_disk_keeps_what_has_arrived(server, tmp_path, monkeypatch):
    """The bar moves after each block is written; a failure there stands in for a disk that is full by then."""
    monkeypatch.setattr("emc2_lite.vision.downloads.BLOCK", 500_000)
    with monkeypatch.context() as patch, pytest.raises(OSError) as refusal:
        patch.setattr("emc2_lite.vision.downloads.tqdm.update", fails(FULL))
        download(server.url, tmp_path / "file.bin", MD5)
    assert refusal.value.errno == errno.ENOSPC
    assert refusal.value.strerror == (
        f"cannot write {tmp_path}/file.bin.part (No space left on device): what has arrived stays; "
        "make room, and the same command goes on from there."
    )
    download(server.url, tmp_path / "file.bin", MD5)
    assert server.asked == [None, "bytes=500000-"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_disk_that_is_full_while_unpacking_keeps_the_archive_alone(server, tmp_path, monkeypatch):
    image_files.stl10(tmp_path / "made")
    server.content, md5 = image_files.tar_of(tmp_path / "made", "stl10_binary")
    fetch = (server.url, tmp_path / "data", "x.tar.gz", md5, "stl10_binary", tmp_path / "data" / "stl10_binary")

    def write_half(tar, draft, **_):
        (draft / "stl10_binary").mkdir(parents=True)
        raise FULL

    with monkeypatch.context() as patch, pytest.raises(OSError) as refusal:
        patch.setattr(tarfile.TarFile, "extractall", write_half)
        fetch_archive(*fetch)
    assert refusal.value.strerror.startswith(
        f"cannot unpack {tmp_path}/data/x.tar.gz (No space left on device): nothing is left half unpacked; make room"
    )
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["x.tar.gz"]
    (tmp_path / "data" / ".stl10_binary.draft" / "stl10_binary").mkdir(parents=True)  # as a killed process leaves it
    (tmp_path / "data" / ".stl10_binary.draft" / "stl10_binary" / "half.bin").write_bytes(b"half")
    fetch_archive(*fetch)
    assert len(list((tmp_path / "data" / "stl10_binary").iterdir())) == 5
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "error", [ssl.SSLError(1, "bad record"), http.client.IncompleteRead(b""), TimeoutError("slow")]
)
def test_a_download_continues_after_any_break_of_the_connection(server, tmp_path, monkeypatch, error):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1_000_000])
    with monkeypatch.context() as patch, pytest.raises(ConnectionError, match=r"1\.0 MB are in .*: the same command"):
        patch.setattr(http.client.HTTPResponse, "read", fails(error))
        download(server.url, tmp_path / "file.bin", MD5)
    download(server.url, tmp_path / "file.bin", MD5)
    assert server.asked == ["bytes=1000000-"] * 2


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write .*/file/deep/file.bin.part \("):
        download(server.url, tmp_path / "file" / "deep" / "file.bin", MD5)
