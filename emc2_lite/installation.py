"""How this package was installed, and the command that installs an extra of it in the same way."""

import json
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from emc2_lite.records import ROOT

INDEX = "from a package index"


class Installation(NamedTuple):
    """`source` ends the sentence "emc2-lite is installed ..."; `remedy` installs it again with an extra."""

    source: str
    remedy: str


def installation(extra: str = "course") -> Installation:
    """Read pip's note about the source of the package, direct_url.json; an index leaves no note.

    >>> installation("widgets").remedy.count("[widgets]")
    1
    """
    note = _note()
    url, archive = str(note.get("url", "")), "archive_info" in note
    path = Path(url2pathname(urlsplit(url).path)) if url.startswith("file:") else None
    if not url and not (ROOT / "pyproject.toml").is_file():
        return Installation(INDEX, f'pip install "emc2-lite[{extra}]", from the same index')
    if version_control := note.get("vcs_info"):
        source = f"{version_control.get('vcs', 'git')}+{url}"
        at = str(version_control.get("commit_id", ""))
        return Installation(f"from {source}, revision {at[:12]}", f'pip install "emc2-lite[{extra}] @ {source}@{at}"')
    if archive and path:
        kind = "wheel" if path.suffix == ".whl" else "source distribution"
        place = path if path.is_file() else Path("...") / path.name
        return Installation(f"from the {kind} {path}", f'pip install "{place}[{extra}]"')
    if archive:
        return Installation(f"from {url}", f'pip install "emc2-lite[{extra}] @ {url}"')
    folder = path or ROOT
    editable = note.get("dir_info", {}).get("editable", not note)
    remedy = f'run "make setup" in {folder}, or "pip install {"-e " if editable else ""}.[{extra}]" there'
    return Installation(f"{'editable, ' if editable else ''}from the folder {folder}", remedy)


def _note() -> dict[str, Any]:
    """The first readable direct_url.json of the package; a folder's own egg-info, which may come first, has none."""
    for found in distributions(name="emc2-lite"):
        with suppress(ValueError):
            note = json.loads(found.read_text("direct_url.json") or "null")
            if isinstance(note, dict):
                return note
    return {}
