"""Where the chapters lie, and the learner's own copy of those that came with the package."""

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import click

from emc2_lite.records import ROOT, data_file, write_whole

FILES = ("*.ipynb", "*.md", "elsewhere/*.md", "elsewhere/*.py", "solutions/*.py")  # pyproject.toml packs the same
OWN = Path("emc2-lite-chapters")
NOTE = ".emc2-lite.json"  # in a copy: the digest of each file as it was copied


def chapters_folder(own: Path | None = None) -> Path:
    """The folder of the chapters: chapters/ here or in the clone; with `own`, or outside of a clone, a copy.

    A copy is made, or brought up to date, by `copied`. In the midst of a copy, this folder is that copy.

    Raises: click.UsageError: if the package came without chapters; click.ClickException: as `copied`.
    """
    places = (Path("chapters"), ROOT / "chapters")
    here = next((place for place in places if any(place.glob("*.ipynb"))), None)
    if here and own is None:
        return here
    installed = data_file("chapters", "notation.md")
    source = here or (installed and installed.parent)
    if source is None:
        raise click.UsageError("this installation came without chapters: run this in a clone of the repository")
    own = own or (Path() if Path(NOTE).is_file() else OWN)
    try:
        kept = copied(source, own)
    except OSError as failure:
        raise click.ClickException(f"cannot copy the chapters to {own} ({failure}): choose another --folder") from None
    click.echo(f"Your chapters are in {own.resolve()}")
    if kept:
        words = "Kept as you changed them (delete or rename a file to have the package's): "
        click.echo(words + ", ".join(kept))
    return own


def copied(source: Path, own: Path) -> list[str]:
    """Copy the chapters, their notation and solutions; returns the names of the files that the learner changed.

    Such a file stays. A file that is as an earlier version of the package left it becomes this version's.

    Raises: OSError: if a file cannot be read or written; each file is then either the old or the new one, whole.
    """
    note, kept = own / NOTE, []
    digests: dict[str, str] = {}
    with suppress(OSError, ValueError):
        digests = dict(json.loads(note.read_text(encoding="utf-8")))
    for name in sorted(path.relative_to(source) for pattern in FILES for path in source.glob(pattern)):
        content, target = (source / name).read_bytes(), own / name
        digest = sha256(content).hexdigest()
        present = sha256(target.read_bytes()).hexdigest() if target.exists() else None
        if present not in (None, digest, digests.get(str(name))):
            kept.append(str(name))
            continue
        if present != digest:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, content)
        digests[str(name)] = digest
    write_whole(note, json.dumps(digests, indent=1) + "\n")
    return kept
