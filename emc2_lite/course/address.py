"""Where a notebook that was opened away from the repository, on Colab say, gets the library from.

The address is ``[project.urls] Repository`` in pyproject.toml. ``python -m emc2_lite.course.address URL`` writes it
there and into every chapter's first cell and badge; an empty URL takes it out again, and the cell then installs the
wheel that lies beside the notebook. The library is never installed by its bare name, which anybody could register.
"""

import re
import sys
import tomllib
from pathlib import Path

import nbformat

from emc2_lite.course.curation import save

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"https://[\w.-]+(?:/[\w.~-]+){2,}", re.ASCII)
GITHUB = "https://github.com/"
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
        return tomllib.load(file)["project"].get("urls", {}).get("Repository", "")


def first_cell(url: str) -> str:
    """The one line that begins every chapter: install the library if it is not here, then prepare the notebook.

    A folder without ``__init__.py``, as a removed installation may leave behind, has no origin: it is not the library.
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
    """The "Open in Colab" line for ``notebook``, a path in the repository; empty if the address is not on GitHub."""
    if not url.startswith(GITHUB):
        return ""
    target = f"https://colab.research.google.com/github/{url.removeprefix(GITHUB)}/blob/main/{notebook}"
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({image})]({target}) {BADGE_MARK}"


def with_badge(markdown: str, line: str) -> str:
    """``markdown`` with its badge replaced by ``line``, which goes below the title; without any if it is empty."""
    title, *rest = re.sub(rf"\n\n[^\n]*{re.escape(BADGE_MARK)}", "", markdown).split("\n")
    return "\n".join([title, *(["", line] if line else []), *rest])


def set_address(url: str, root: Path = ROOT) -> list[Path]:
    """Make ``url`` the repository's address everywhere; returns the files that changed. Raises ``ValueError``."""
    url = url.strip().removesuffix("/").removesuffix(".git")
    of_a_page = url.startswith(GITHUB) and url.removeprefix(GITHUB).count("/") != 1
    if url and (of_a_page or not ADDRESS.fullmatch(url)):
        raise ValueError(f"{url!r} is not an address like https://github.com/you/emc2-lite")
    readme, project = root / "README.md", root / "pyproject.toml"
    new = {
        project: _with_repository(project.read_text(encoding="utf-8"), url),
        readme: with_badge(readme.read_text(encoding="utf-8"), badge(url, FIRST_CHAPTER)),
    }
    changed = [path for path, text in new.items() if path.read_text(encoding="utf-8") != text]
    chapters = {path: nbformat.read(path, as_version=4) for path in sorted((root / "chapters").glob("*.ipynb"))}
    for path, chapter in chapters.items():
        if _readdress(chapter, path, url):
            changed.append(path)
    for path in changed:
        if path in chapters:
            save(chapters[path], path)
        else:
            path.write_text(new[path], encoding="utf-8")
    return changed


def _with_repository(project: str, url: str) -> str:
    header = "[project.urls]\n"
    if header not in project:
        raise ValueError("pyproject.toml has no section [project.urls]")
    before, after = project.split(header)
    after = re.sub(r'^Repository = "[^"\n]*"\n', "", after)
    return before + header + (f'Repository = "{url}"\n' if url else "") + after


def _readdress(chapter: nbformat.NotebookNode, path: Path, url: str) -> bool:
    """Renew the chapter's first cell and badge in place; tells whether that changed anything."""
    code = next((cell for cell in chapter.cells if cell.cell_type == "code"), None)
    if code is None or START not in code.source:
        raise ValueError(f"the first code cell of {path.name} does not call {START}")
    title = chapter.cells[0]
    before = (title.source, code.source)
    code.source = first_cell(url)
    if title.cell_type == "markdown":
        title.source = with_badge(title.source, badge(url, f"chapters/{path.name}"))
    return before != (title.source, code.source)


def main(arguments: list[str]) -> int:
    """Set the address given as the only argument; prints which files changed, or one sentence on what is wrong."""
    try:
        changed = set_address(*arguments)
    except ValueError as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return 2
    print("\n".join(f"changed {path.relative_to(ROOT)}" for path in changed) or "nothing to change")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
