"""The book in a browser without a network: pages, links, figures that move without a kernel, and who can read them."""

import json
import re
import shutil
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlparse

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import FLAGS, find_chromium
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

from emc2_lite.course import book as maker
from emc2_lite.course import pages
from emc2_lite.course.solved import CHECKED, definitions

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))
BESIDE = ("index", "notation", "records", "teachers", "data", "api/index", "api/losses", "elsewhere/README")
WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
SETTLED = "() => !window.MathJax?.startup?.promise || MathJax.startup.promise.then(() => true)"
# Brings figures onto the screen, those named or all, and waits until they are drawn; returns those that are not.
DRAW = """async names => { const chosen = [...document.querySelectorAll('.emc2-figure')]
        .filter(box => !names || names.includes(box.dataset.figure));
    for (const box of chosen) {
    box.scrollIntoView();
    const until = Date.now() + 20000;
    while (!box.classList.contains('emc2-drawn') && Date.now() < until) await new Promise(go => setTimeout(go, 50)); }
    return chosen.filter(box => !box.classList.contains('emc2-drawn')).map(box => box.dataset.figure); }"""
MOVED = "([box, state]) => box.dataset.state === String(state)"
WIDER = "() => document.documentElement.scrollWidth - window.innerWidth"
PLOTTED = """box => { const plot = box.querySelector('.emc2-plot');
    const plain = value => ArrayBuffer.isView(value) ? [...value] : value;
    const leaf = (part, path) => plain(path.split('.').reduce((inner, key) => inner?.[key], part));
    return paths => paths.map(path => plot.data.map(trace => leaf(trace, path))); }"""
# Level AA of WCAG 2.2, as far as axe can tell; a plot is one picture with a description.
LEVEL = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
RULES = {"runOnly": LEVEL, "preload": False, "resultTypes": ["violations"]}
PLACES = {"include": [["body"]], "exclude": [[".emc2-plot"], ["mjx-container"]]}
NAMELESS = """() => document.querySelectorAll(
    '.emc2-plot:not([role=img][aria-label]), mjx-container:not(:has(mjx-assistive-mml))').length"""

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium or Chrome")


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    maker.make(folder)
    return folder / "html"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def opened(book, browser):
    """Opens a page of the book; what it asks of other hosts, and its errors, are in `page.complaints`."""
    made = []

    def open_page(name, viewport, **context):
        made.append(browser.new_context(viewport=viewport, **context))
        page = made[-1].new_page()
        page.complaints = []
        page.on("request", lambda request: _note(page, request.url))
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(f"file://{book}/{name}.html")
        page.wait_for_function(SETTLED)
        return page

    yield open_page
    for context in made:
        context.close()


def _note(page, url):
    if not url.startswith(("file:", "data:", "blob:")):
        page.complaints.append(f"asks for {url}")


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_whole_on_a_phone_without_a_network(opened, name):
    """Formulas are set, each figure is drawn, nothing is asked of another host, no page scrolls sideways."""
    page = opened(name, PHONE, color_scheme="dark")
    assert page.evaluate(DRAW) == [] and page.complaints == []
    assert page.locator("mjx-merror").count() == 0 and "\\(" not in page.locator("article").inner_text()
    assert page.evaluate(WIDER) <= 0
    assert page.locator(".emc2-figure").count() == _stored_figures(name)
    assert name not in CHAPTERS[::2] or barriers(page) == []


def _stored_figures(stem):
    cells = nbformat.read(ROOT / "chapters" / f"{stem}.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return sum(maker.PLOTLY in output.get("data", {}) for output in outputs)


def barriers(page):
    """What axe finds against level AA of WCAG 2.2, with everything unfolded."""
    page.evaluate("() => document.querySelectorAll('details').forEach(box => { box.open = true; })")
    assert page.evaluate(NAMELESS) == 0
    found = Axe().run(page, context=PLACES, options=RULES).response["violations"]
    return [(rule["id"], rule["help"], [node["html"][:160] for node in rule["nodes"][:4]]) for rule in found]


@pytest.mark.parametrize(("name", "scheme"), list(zip(BESIDE, ["light", "dark"] * 4, strict=True)))
def test_axe_finds_no_barrier_beside_the_chapters(opened, name, scheme):
    page = opened(name, PHONE, color_scheme=scheme)
    assert page.evaluate(DRAW) == [] and page.complaints == []
    assert page.evaluate(WIDER) <= 0
    assert barriers(page) == []


def test_each_link_of_each_page_has_its_target(book):
    texts = {path: path.read_text(encoding="utf-8") for path in book.rglob("*.html")}
    anchors = {path: set(re.findall(r' id="([^"]+)"', text)) for path, text in texts.items()}
    broken = []
    for path, text in texts.items():
        for tag, address in set(re.findall(r'<(a|img|link|script)\b[^>]*? (?:href|src)="([^"]*)"', text)):
            link = urlparse(unescape(address))
            assert not link.netloc or tag == "a", f"{path.name} loads {address} from another host"
            if link.scheme or link.netloc or not (link.path or link.fragment):
                continue
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            if not target.exists() or (link.fragment and target in anchors and link.fragment not in anchors[target]):
                broken.append((path.relative_to(book).as_posix(), address))
    assert broken == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_controls_move_the_figures_to_the_states_that_were_stored(opened, book, name):
    """Every control, by keys: the figure then has the stored state's numbers, and its description."""
    page = opened(name, WIDE, color_scheme="light")
    names = [box.get_attribute("data-figure") for box in page.locator(".emc2-figure").all()]
    contents = {one: content for one in names if "controls" in (content := _content(book, one))}
    assert page.evaluate(DRAW, [*contents]) == []
    for one, content in contents.items():
        box = page.locator(f"[data-figure='{one}']")
        places = [control["start"] for control in content["controls"]]
        for number, control in enumerate(content["controls"]):
            last = len(control["texts"]) - 1
            key, place = ("ArrowLeft", last - 1) if places[number] == last else ("ArrowRight", places[number] + 1)
            box.locator(".emc2-control").nth(number).locator("input:checked, input[type=range]").first.focus()
            page.keyboard.press(key)
            places[number] = place
            state = 0
            for at, one in zip(places, content["controls"], strict=True):
                state = state * len(one["texts"]) + at
            page.wait_for_function(MOVED, arg=[box.element_handle(), state])
            assert box.locator(".emc2-plot").get_attribute("aria-label") == content["descriptions"][state]
            traces, _ = content["changes"][state]
            numbers = {path: values for path, values in traces.items() if path in ("x", "y", "z")}
            plotted = box.evaluate(f"(box, paths) => ({PLOTTED})(box)(paths)", list(numbers))
            for values, drawn in zip(numbers.values(), plotted, strict=True):
                assert _numbers(drawn) == pytest.approx(_numbers(values))
    assert page.complaints == []
    assert name not in CHAPTERS[1::2] or barriers(page) == []


def _content(book, name):
    text = (book / "_static" / "figures" / f"{name}.js").read_text(encoding="utf-8")
    return json.loads(re.fullmatch(r'emc2Book\.figure\("[\d-]+", (.*)\);\n', text)[1])


def _numbers(values):
    """The numbers of nested lists, in order."""
    if isinstance(values, list):
        return [number for value in values for number in _numbers(value)]
    return [float(values)] if isinstance(values, int | float) else []


def test_the_chain_takes_the_samplers_steps_without_python(opened, book):
    """Twelve steps at two seeds: what the page says is what the sampler did."""
    page = opened("04_metropolis_hastings", WIDE)
    assert page.evaluate(DRAW) == []
    box = page.locator(".emc2-figure:has(.emc2-stepper)")
    chain = _content(book, box.get_attribute("data-figure"))["chain"]
    level, said = chain["levels"][chain["start"]], box.locator(".emc2-said")
    for seed in (0, 1):
        for step in range(12):
            box.get_by_role("button", name="Step").click()
            words = said.inner_text()
            assert words.startswith(f"Step {step + 1} proposes candidate {chain['proposals'][seed][step]}, ")
            assert ("rejected" not in words) == bool(level["accepted"][seed][step])
            assert f"histogram {level['distance'][seed][step]:.2f}" in words
        box.get_by_role("button", name="New seed").click()
    assert page.complaints == []


def test_search_finds_a_word_of_a_chapter_and_a_name_of_the_library(opened):
    for words, target in (("burn-in", "05_emc2.html"), ("SogCLRLoss", "api/losses.html")):
        page = opened("search", WIDE)
        page.goto(f"{page.url}?q={words}")
        page.locator("#search-results li a").first.wait_for(timeout=20_000)
        links = page.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
        assert any(target in link for link in links)


def test_each_exercise_has_its_solution_below_its_hints(book):
    for stem in CHAPTERS:
        soup = BeautifulSoup((book / f"{stem}.html").read_text(encoding="utf-8"), "html.parser")
        shown = [box.get_text() for box in soup.find_all("details") if box.summary.get_text().startswith("Solution")]
        cells = nbformat.read(ROOT / "chapters" / f"{stem}.ipynb", as_version=4).cells
        names = {name for cell in cells if cell.cell_type == "code" for name in CHECKED.findall(cell.source)}
        assert names
        assert names <= set(definitions(ROOT / "chapters" / "solutions" / f"{stem}.py"))
        for name in names:
            assert any(re.search(rf"(def|class) {name}\b", text) for text in shown), name


def test_public_names_and_chapters_lead_to_each_other(book):
    api = (book / "api" / "losses.html").read_text(encoding="utf-8")
    assert '<a class="reference internal" href="../05_emc2.html">' in api
    chapter = (book / "05_emc2.html").read_text(encoding="utf-8")
    assert 'href="api/losses.html#emc2_lite.losses.EMC2Loss"' in chapter
    missing = [name for name in pages.public_names().values() if f'id="{name}"' not in _reference(book)]
    assert missing == []


def _reference(book):
    return "".join(path.read_text(encoding="utf-8") for path in sorted((book / "api").glob("*.html")))


def test_a_fault_in_a_page_stops_the_book(tmp_path):
    root = tmp_path / "root"
    for name in ("chapters", "data"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("downloads"))
    for path in sorted((root / "chapters").glob("*.ipynb"))[1:]:
        path.unlink()
    with pytest.raises(
        RuntimeError, match=r"Sphinx made no book:(.|\n)*toctree contains reference to nonexisting document"
    ):
        maker.make(tmp_path / "book", root)
