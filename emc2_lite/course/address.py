"""The address from which a notebook outside the repository, as on Colab, installs the library.

The address is ``[project.urls] Source`` in pyproject.toml. ``python -m emc2_lite.course.address URL`` writes it there,
with the other links of `links`, and into every chapter's first cell and badge. An empty URL removes the address; the
first cell then installs the wheel beside the notebook. No cell installs the library by its bare name, which anybody
could register.
"""

import re
import sys
import tomllib
from pathlib import Path

import nbformat

from emc2_lite.records import write_whole

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"https://[\w.-]+(?:/[\w.~-]+){2,}", re.ASCII)
GITHUB = "https://github.com/"
COLAB = "https://colab.research.google.com"
START = "course.start()"
BADGE_MARK = "<!-- colab badge -->"
FIRST_CHAPTER = "chapters/00_start_here.ipynb"
WHEEL = "./emc2_lite-*.whl"
NO_WHEEL = (
    "emc2-lite is not installed, and no emc2_lite-*.whl lies beside this notebook: "
    "upload the one that `make wheel` builds in the repository, or set an address there with `make address URL=...`"
)


def address(root: Path = ROOT) -> str:
    """The repository's public address, or an empty text where none is set."""
    with (root / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"].get("urls", {}).get("Source", "")


def links(url: str) -> dict[str, str]:
    """The package's links, all made from one address; none for an empty one.

    >>> links("https://github.com/you/emc2-lite")["Issues"]
    'https://github.com/you/emc2-lite/issues'
    """
    if not url:
        return {}
    return {"Homepage": url, "Documentation": f"{url}#readme", "Source": url, "Issues": f"{url}/issues"}


def first_cell(url: str) -> str:
    """The one line that begins every chapter: install the library if it is missing, then prepare the notebook.

    A folder without ``__init__.py``, which a removed installation may leave behind, has no origin and does not count.
    """
    here = 'getattr(find_spec("emc2_lite"), "origin", None)'
    if url:
        install = f"""{here} or get_ipython().run_line_magic("pip", 'install -q "emc2-lite[widgets] @ git+{url}"')"""
        steps = ["from importlib.util import find_spec", install]
    else:
        steps = [
            "from glob import glob",
            "from importlib.util import find_spec",
            f'found = {here} or max(glob("{WHEEL}"), default=None)',
            f'assert found, "{NO_WHEEL}"',
            """found.endswith(".whl") and get_ipython().run_line_magic("pip", f'install -q "{found}[widgets]"')""",
        ]
    return "; ".join([*steps, "from emc2_lite import course", f"{START}  # fmt: skip"])


def badge(url: str, notebook: str) -> str:
    """The "Open in Colab" line for ``notebook``, a path in the repository; empty for an address outside GitHub."""
    if not url.startswith(GITHUB):
        return ""
    target = f"{COLAB}/github/{url.removeprefix(GITHUB)}/blob/main/{notebook}"
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({target}) {BADGE_MARK}"


def with_badge(markdown: str, line: str) -> str:
    """``markdown`` with ``line`` below the title in place of an earlier badge; an empty line only removes the badge."""
    title, *rest = re.sub(rf"\n\n[^\n]*{re.escape(BADGE_MARK)}", "", markdown).split("\n")
    return "\n".join([title, *(["", line] if line else []), *rest])


def set_address(url: str, root: Path = ROOT) -> list[Path]:
    """Make ``url`` the repository's address everywhere; returns the files that changed.

    Raises: ValueError: on an address without host, owner and name, or a file without the place for an address; then no
    file changes.
    """
    url = url.strip().removesuffix("/").removesuffix(".git")
    below_a_repository = url.startswith(GITHUB) and url.removeprefix(GITHUB).count("/") != 1
    if url and (below_a_repository or not ADDRESS.fullmatch(url)):
        raise ValueError(f"{url!r} is not an address like https://github.com/you/emc2-lite")
    readme, project = root / "README.md", root / "pyproject.toml"
    texts = {
        project: _with_links(project.read_text(encoding="utf-8"), url),
        readme: with_badge(readme.read_text(encoding="utf-8"), badge(url, FIRST_CHAPTER)),
        **{path: _readdressed(path, url) for path in sorted((root / "chapters").glob("*.ipynb"))},
    }
    changed = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    for path in changed:
        write_whole(path, texts[path])
    return changed


def _with_links(project: str, url: str) -> str:
    new = "[project.urls]\n" + "".join(f'{name} = "{link}"\n' for name, link in links(url).items())
    old = rf'^\[project\.urls\]\n(?:(?:{"|".join(links(GITHUB))}) = "[^"\n]*"\n)*'
    text, found = re.subn(old, new, project, flags=re.MULTILINE)
    if not found:
        raise ValueError("pyproject.toml has no section [project.urls]")
    return text


def _readdressed(path: Path, url: str) -> str:
    """The chapter's text with the first cell and the badge for ``url``."""
    chapter = nbformat.read(path, as_version=4)
    code = next((cell for cell in chapter.cells if cell.cell_type == "code"), None)
    if code is None or START not in code.source:
        raise ValueError(f"the first code cell of {path.name} does not call {START}")
    code.source = first_cell(url)
    title = chapter.cells[0]
    if title.cell_type == "markdown":
        title.source = with_badge(title.source, badge(url, f"chapters/{path.name}"))
    return nbformat.writes(chapter) + "\n"


def main(arguments: list[str]) -> int:
    """Set the address given as the only argument; prints which files changed, or one sentence about the problem."""
    try:
        if len(arguments) != 1:
            raise ValueError("give one URL, or an empty text to remove the address")
        changed = set_address(arguments[0])
    except ValueError as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return 2
    print("\n".join(f"changed {path.relative_to(ROOT)}" for path in changed) or "nothing to change")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
