"""Downloads that continue where they broke off, and get their name only with the right checksum."""

import hashlib
import http.client
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from emc2_lite.locking import locked

BLOCK = 1 << 20  # bytes


def download(url: str, path: Path, md5: str) -> None:
    """Fetch a file into `path`, by way of `path` + ".part", with a progress bar; an earlier part is continued where the
    server can do so, and begun again where it cannot.

    Raises: ConnectionError: if the connection fails or breaks; OSError: if the disk is full or cannot be written to;
        what has arrived stays. ValueError: if the whole file has arrived with another checksum; the file is deleted.
    """
    part = path.with_name(f"{path.name}.part")
    begun = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(request, timeout=60) as answer:
            _receive(answer, part, begun if answer.status == 206 else 0)
    except urllib.error.HTTPError as failure:
        if failure.code != 416:  # the part is whole, and the server has no bytes left to send
            raise ConnectionError(
                f"{url} answers {failure.code} {failure.reason}: try the same command another day."
            ) from None
    except (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as failure:
        size = part.stat().st_size if part.exists() else 0
        raise ConnectionError(
            f"{url} could not be fetched ({getattr(failure, 'reason', failure)}), {size / 1e6:.1f} MB are in {part}: "
            "the same command goes on from there."
        ) from None
    except OSError as failure:  # the errors of the disk; those of the connection are caught above
        raise OSError(
            failure.errno,
            f"cannot write {part} ({failure.strerror}): what has arrived stays; make room, and the same command goes "
            "on from there.",
        ) from None
    if (found := _md5(part)) != md5:
        part.unlink()
        raise ValueError(
            f"{url} arrived with checksum {found}, and {md5} was expected; it is deleted: "
            "the same command fetches it anew."
        )
    part.replace(path)


def _receive(answer: http.client.HTTPResponse, part: Path, begun: int) -> None:
    """Write the server's bytes behind the first `begun` bytes of the part."""
    total = begun + int(length) if (length := answer.headers.get("Content-Length")) else None
    with (
        part.open("ab" if begun else "wb") as file,
        tqdm.wrapattr(file, "write", total, initial=begun, desc=part.stem, disable=None) as counted,
    ):
        shutil.copyfileobj(answer, counted, BLOCK)
        if total is not None and file.tell() < total:
            raise ConnectionError("the connection broke")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def fetch_archive(url: str, folder: Path, name: str, md5: str, content: str, wanted: Path) -> None:
    """Download the tar archive `name` into `folder`, and unpack its top folder `content` there, whole or not at all;
    do nothing where `wanted`, a file or folder of the content, exists.

    Raises: Locked: while another process does the same; ConnectionError, ValueError, OSError: as `download`.
    """
    if wanted.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    archive, draft = folder / name, folder / f".{content}.draft"
    with locked(folder / f".{name}.lock", f"the download of {name} in {folder}"):
        if wanted.exists():  # another process has just unpacked it
            return
        if not archive.exists():
            download(url, archive, md5)
        elif (found := _md5(archive)) != md5:
            raise ValueError(
                f"{archive} has checksum {found}, and {md5} was expected: it is damaged or cut short; delete it, and "
                "the same command fetches it anew."
            )
        shutil.rmtree(draft, ignore_errors=True)
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(draft, filter="data")
            shutil.rmtree(folder / content, ignore_errors=True)
            (draft / content).replace(folder / content)
        except OSError as failure:
            raise OSError(
                failure.errno,
                f"cannot unpack {archive} ({failure.strerror}): nothing is left half unpacked; make room, and the same "
                "command unpacks it.",
            ) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def take_copy(source: Path, target: Path, md5: str) -> None:
    """Copy a file by way of a temporary name, if it has the checksum.

    Raises: ValueError: on another checksum of the source; OSError: if the disk is full or cannot be written to.
    """
    if (found := _md5(source)) != md5:
        raise ValueError(
            f"{source} has checksum {found}, and {md5} was expected: it is damaged or cut short; delete it, and the "
            "same command puts a good one in its place."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.copy")
    try:
        shutil.copyfile(source, draft)
        draft.replace(target)
    except OSError as failure:
        words = f"cannot copy {source} to {target} ({failure.strerror}): make room, then try again"
        raise OSError(failure.errno, words) from None
    finally:
        draft.unlink(missing_ok=True)
