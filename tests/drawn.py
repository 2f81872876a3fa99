"""Figures drawn by plotly in a page of Chromium at several widths, and what a reader would find wrong with them.

``python tests/drawn.py chapters/04*.ipynb --out pictures`` saves a PNG of each stored figure at each width.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import nbformat
import plotly
from browser import FLAGS, find_chromium
from playwright.sync_api import Page, sync_playwright

WIDTHS = (332, 668, 1100)
PLOTLY = "application/vnd.plotly.v1+json"
LIBRARY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
DRAW = """async ([figure, width]) => {
    const box = document.getElementById('figure');
    Plotly.purge(box);
    box.style.width = width + 'px';
    box.style.height = figure.layout.height + 'px';
    await Plotly.newPlot(box, figure.data, figure.layout, {responsive: true, displayModeBar: false});
}"""
MOVE = """async step => { await Plotly.update('figure', ...step.args); }"""
# Each visible text: its words, whether it is the label of a point, and its place, turned as it is.
TEXTS = """() => [...document.querySelectorAll('#figure text')].map(node => {
    const box = node.getBoundingClientRect();
    const style = getComputedStyle(node);
    const hidden = style.visibility === 'hidden' || style.opacity === '0' || !node.textContent.trim();
    const place = {left: box.left, right: box.right, top: box.top, bottom: box.bottom};
    return hidden ? null : {words: node.textContent, point: node.closest('.textpoint') !== null, ...place};
}).filter(Boolean)"""
FRAME = (
    "() => { const box = document.querySelector('#figure .main-svg').getBoundingClientRect(); return box.toJSON(); }"
)
SLACK = 2.0  # pixels


def stored_figures(path: Path) -> Iterator[tuple[int, dict]]:
    """The number of its cell, and plotly's form, of each figure stored in a notebook."""
    for number, cell in enumerate(nbformat.read(path, 4).cells):
        for output in cell.get("outputs", ()):
            if figure := output.get("data", {}).get(PLOTLY):
                yield number, figure


class Drawing:
    """A page that draws one figure after another."""

    def __enter__(self) -> "Drawing":
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        self.page: Page = self._browser.new_page(viewport={"width": 1200, "height": 1000})
        self.page.set_content("<body style='margin: 0'><div id='figure'></div></body>")
        self.page.add_script_tag(path=LIBRARY)
        return self

    def __exit__(self, *_) -> None:
        self._browser.close()
        self._playwright.stop()

    def draw(self, figure: dict, width: int) -> None:
        self.page.evaluate(DRAW, [{"data": figure["data"], "layout": figure["layout"]}, width])

    def problems(self, figure: dict, width: int) -> list[str]:
        """Texts that are cut or lie over each other, at the slider's start and, in the narrowest form, at each step."""
        self.draw(figure, width)
        found = self._problems()
        sliders = figure["layout"].get("sliders", [])
        for step in sliders[0]["steps"] if sliders and width == WIDTHS[0] else ():
            self.page.evaluate(MOVE, step)
            found += [f"{step['label']}: {problem}" for problem in self._problems()]
        return found

    def _problems(self) -> list[str]:
        texts, frame = self.page.evaluate(TEXTS), self.page.evaluate(FRAME)
        found = []
        for text in texts:
            inside = text["left"] >= frame["left"] - SLACK and text["right"] <= frame["right"] + SLACK
            if not inside or text["top"] < frame["top"] - SLACK or text["bottom"] > frame["bottom"] + SLACK:
                found.append(f"{text['words']!r} is cut")
        for number, one in enumerate(texts):
            for other in texts[number + 1 :]:
                across = min(one["right"], other["right"]) - max(one["left"], other["left"])
                down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
                labels = one["point"] and other["point"]  # points that lie close have labels that do
                if across > SLACK and down > 2 * SLACK and not labels:
                    found.append(f"{one['words']!r} lies over {other['words']!r}")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the stored figures of chapters at several widths.")
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNG files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with Drawing() as drawing:
        for path in options.notebooks:
            for cell, figure in stored_figures(path):
                for width in WIDTHS:
                    found = drawing.problems(figure, width)
                    for problem in found:
                        print(f"{path.stem}, cell {cell}, {width} pixels: {problem}")
                    drawing.draw(figure, width)
                    name = options.out / f"{path.stem[:2]}-{cell:02}-{width}.png"
                    drawing.page.locator("#figure").screenshot(path=name)


if __name__ == "__main__":
    main()
