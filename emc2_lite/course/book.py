"""The course as a book: pages that need neither a kernel nor a network, made from the notebooks' stored outputs.

``python -m emc2_lite.course.book`` writes the book to build/book/html. Nothing is executed: a figure moves with the
states that are stored beside it (`emc2_lite.course.live.states`), chapter 04's chain with its own
(`emc2_lite.course.stepper.chain_of`).
"""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from importlib.util import find_spec
from pathlib import Path
from textwrap import indent
from typing import Any

import nbformat
import plotly
from PIL import Image

from emc2_lite.course import pages
from emc2_lite.course.address import BADGE_MARK, START, address
from emc2_lite.course.live import FOLDER, ROOM, STATES, compact
from emc2_lite.course.solved import CHECKED, definitions
from emc2_lite.course.stepper import CHAIN
from emc2_lite.records import ROOT

PLOTLY = "application/vnd.plotly.v1+json"
# Lines for the reader of a notebook: what a control moves, an exercise that waits, a file that was written.
HERE = re.compile(
    r"^(?:.*(?:in the picture; run the cell to move it|run the cell to step through).*"
    r"|\w+: not written yet.*|(?:Writing|Appending to|Overwriting) \S+)\n?",
    re.MULTILINE,
)
MATHJAX = "sphinx-mathjax-offline"


class Figures:
    """Writes the stored figures of one chapter as files of the book, and returns the HTML that shows them."""

    def __init__(self, chapter: str, folder: Path):
        self.chapter, self.folder, self.number = chapter, folder, 0

    def html(self, data: dict[str, Any], alt: str) -> str:
        """The picture, which is there at once, and the name of the data that make it move."""
        self.number += 1
        name = f"{self.chapter[:2]}-{self.number:02}"
        picture = base64.b64decode(data["image/png"])
        width, height = Image.open(io.BytesIO(picture)).size
        (self.folder / f"{name}.png").write_bytes(picture)
        content, space = moving(data)
        (self.folder / f"{name}.js").write_text(f'emc2Book.figure("{name}", {compact(content)});\n', encoding="utf-8")
        image = f'<img src="_static/figures/{name}.png" width="{width}" height="{height}" loading="lazy"'
        return (
            f'<figure class="emc2-figure" id="figure-{name}" data-figure="{name}" style="--space: {space}px">'
            f'{image} alt="{escape(alt, quote=True)}"></figure>'
        )


def moving(data: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """What book.js draws from a stored output: a chain, or plotly's form with controls; and its height in pixels."""
    if CHAIN in data:
        return {"chain": json.loads(data[CHAIN])}, 560
    figure = {"data": data[PLOTLY]["data"], "layout": dict(data[PLOTLY]["layout"])}
    sliders = figure["layout"].pop("sliders", None)
    if sliders is None:
        return figure, int(figure["layout"].get("height", 420))
    layout, kept = figure["layout"], json.loads(data[STATES])
    layout["height"] -= ROOM
    layout["margin"] = layout["margin"] | {"t": layout["margin"]["t"] - ROOM}
    changes = kept["changes"] or [step["args"] for step in sliders[0]["steps"]]
    figure |= {"controls": kept["controls"], "descriptions": kept["descriptions"], "changes": changes}
    return figure, int(layout["height"]) + 40 * len(kept["controls"])


def page(notebook: nbformat.NotebookNode, solutions: dict[str, str], figures: Figures) -> nbformat.NotebookNode:
    """The chapter as a page: figures as HTML, solutions below their hints, links to the book's own pages."""
    cells, known = [], pages.public_names()
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        new = nbformat.from_dict(cell)
        if cell.cell_type == "markdown":
            exercise = next(iter(CHECKED.findall(following.source if following else "")), None)
            new.source = prose(with_solution(cell.source, solutions.get(exercise or "")), known)
        elif START in cell.source:
            continue
        else:
            new.outputs = [*shown(cell.outputs, figures)]
        cells.append(new)
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def shown(outputs: list[nbformat.NotebookNode], figures: Figures) -> Iterator[nbformat.NotebookNode]:
    """The outputs as the book shows them: without lines for the reader of a notebook, a printed table as a table."""
    for output in outputs:
        data = output.get("data", {})
        if PLOTLY in data and "image/png" in data:
            html = figures.html(data, output.metadata.get("image/png", {}).get("alt", ""))
            yield nbformat.v4.new_output("display_data", {"text/html": html})
        elif output.output_type != "stream":
            yield output
        elif output.text.startswith("| "):
            yield nbformat.v4.new_output("display_data", {"text/markdown": output.text})
        elif text := HERE.sub("", output.text):
            yield nbformat.v4.new_output("stream", name=output.name, text=text)


def with_solution(markdown: str, code: str | None) -> str:
    """The text of an exercise with the code of its solution in the place of the link to the file."""
    if code is None:
        return markdown
    linked = r":?\s*\[solutions/[\w.]+\]\(solutions/[\w.]+\)\.?"
    before, mark, solution = markdown.rpartition("<details><summary>Solution")
    text, rest = solution.split("</details>", 1)
    text = re.sub(r"(?<=[\w)`$])$", ".", re.sub(linked, "", text).rstrip())
    return f"{before}{mark}{text}\n\n```python\n{code}\n```\n\n</details>{rest}"


def with_scripts(markdown: str, folder: Path) -> str:
    """The text with the scripts that its list items link to, each below its item."""

    def item(found: re.Match) -> str:
        code = (folder / found[2]).read_text(encoding="utf-8").rstrip()
        return f"{found[1]}`{found[2]}`{found[3]}\n\n  ```python\n{indent(code, '  ')}\n  ```\n"

    return re.sub(r"^(\* )\[(\w+\.py)\]\(\w+\.py\)(.*(?:\n  .*)*)", item, markdown, flags=re.MULTILINE)


def prose(markdown: str, known: dict[str, str]) -> str:
    """Markdown with public names linked to the API, and links to files turned to the book's pages."""
    markdown = re.sub(
        rf"\[!\[Open in Colab\]\([^)]*\)\]\(([^)]*)\) {re.escape(BADGE_MARK)}", r"[Open in Colab](\1)", markdown
    )
    markdown = re.sub(r"\[([^\]]+)\]\(solutions/[^)]*\)", r"\1", markdown)
    markdown = re.sub(r"```python\n(?=!)", "```ipython3\n", markdown)
    markdown = re.sub(r"\[([^\]]+)\]\((?:\.\./)+([^)#]*)\)", lambda found: _file(found[1], found[2]), markdown)
    parts = re.split(r"(```.*?```|\$\$.*?\$\$|<summary>.*?</summary>|\[[^\]]*\]\([^)]*\))", markdown, flags=re.DOTALL)
    return "".join(part if place % 2 else _linked(part, known) for place, part in enumerate(parts))


def _linked(text: str, known: dict[str, str]) -> str:
    def link(found: re.Match) -> str:
        name = found[1]
        return f"{{py:obj}}`{name} <{known[name]}>`" if name in known else found.group()

    return re.sub(r"(?<![`\w}])`([A-Za-z_][\w.]*)`(?!`)", link, text)


def _file(text: str, path: str) -> str:
    own = {"data/README.md": "data.md", "README.md": "index.md", "chapters/notation.md": "notation.md"}
    if path in own:
        return f"[{text}]({own[path]})"
    module = path.removesuffix(".py").replace("/", ".")
    if text.startswith("`"):  # a name, which leads to the reference
        return text
    if path.endswith(".py") and module in pages.documented_modules():
        return f'<a href="_modules/{module.replace(".", "/")}.html">{text}</a>'
    if url := address():
        return f"[{text}]({url}/tree/main/{path})"
    return text


def make(output: Path, root: Path = ROOT) -> None:
    """Write the source of all pages, then the book, to ``output``; Sphinx's warnings are errors.

    Raises: RuntimeError: if Sphinx finds a fault, with its words.
    """
    source, static = output / "source", output / "static"
    for folder in (output / "html", source, static / "figures", static / "records"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    shutil.copytree(root / "chapters" / "book", source, dirs_exist_ok=True, ignore=shutil.ignore_patterns("static"))
    for path in sorted((root / "chapters").glob("*.ipynb")):
        solutions = definitions(path.parent / "solutions" / f"{path.stem}.py")
        new = page(nbformat.read(path, as_version=4), solutions, Figures(path.stem, static / "figures"))
        nbformat.write(new, source / path.name)
    known = pages.public_names()
    beside = {f"elsewhere/{path.name}": path for path in (root / "chapters" / "elsewhere").glob("*.md")}
    for name in ("elsewhere", "api"):
        (source / name).mkdir()
    for name, path in (pages.TEXTS | beside).items():
        text = with_scripts(path.read_text(encoding="utf-8"), path.parent)
        (source / name).write_text(prose(text, known), encoding="utf-8")
    teachers = source / "teachers.md"
    teachers.write_text(teachers.read_text(encoding="utf-8").replace("{times}", pages.times()), encoding="utf-8")
    (source / "records.md").write_text(pages.records(root, source, static / "records"), encoding="utf-8")
    for name, text in pages.reference().items():
        (source / "api" / name).write_text(text, encoding="utf-8")
    _scripts(static)
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "--jobs", "2"]
    ran = subprocess.run([*command, str(source), str(output / "html")], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"Sphinx made no book:\n{ran.stderr.strip()}")


def _scripts(static: Path) -> None:
    """The scripts and fonts of the pages; the notebooks' widgets as plain scripts, which a file of a disk may load."""
    shutil.copytree(ROOT / "chapters" / "book" / "static", static, dirs_exist_ok=True)
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", static)
    widgets = {name: (FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in ("control", "stepper")}
    plain = (
        f"(() => {{\n{text.replace('export default', f'emc2Book.{name} =')}}})();" for name, text in widgets.items()
    )
    book = static / "book.js"
    book.write_text("\n".join([book.read_text(encoding="utf-8"), *plain]), encoding="utf-8")
    styles = "\n".join((FOLDER / f"{name}.css").read_text(encoding="utf-8") for name in widgets)
    (static / "widgets.css").write_text(styles, encoding="utf-8")
    package = find_spec(MATHJAX)
    assert package is not None and package.origin is not None
    mathjax, fonts = Path(package.origin).parent / "static" / "mathjax", "output/chtml/fonts/woff-v2"
    shutil.copytree(mathjax / fonts, static / "mathjax" / fonts, dirs_exist_ok=True)
    shutil.copy(mathjax / "tex-chtml.js", static / "mathjax")


def main() -> int:
    """Make the book and print where it is; the exit status is 1 if that fails."""
    output = Path("build/book")
    try:
        make(output)
    except RuntimeError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"The book: {output / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
