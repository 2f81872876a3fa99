"""Every chapter in a real JupyterLab: all cells run, each control changes its picture, nothing leaves this machine.

The chapters are solved copies with small parameters, and every exercise must be right in them: `make test` executes
the learner's copies elsewhere, once.
"""

import os
from pathlib import Path

import nbformat
import pytest
import torch
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

pytest.importorskip("playwright", reason="the browser tests need playwright: pip install playwright")

from browser import JupyterLab, exercise_lines, find_chromium, problems, run_all

from emc2_lite.course.solved import CHECKED, solved

CHAPTERS = sorted((Path(__file__).parents[1] / "chapters").glob("[0-9]*.ipynb"))
SMALL = {
    "00_start_here": {"training_steps": 20, "training_seeds": 1, "label_draws": 3, "shots": [1, 10, 100]},
    "01_contrastive_learning": {"training_steps": 10, "training_seeds": 1},
    "02_the_global_loss": {
        "num_digits": 80,
        "encoders": 1,
        "training_steps": 10,
        "batch_sizes": [2, 4, 8, 16, 24, 32, 48, 64],
    },
    "03_averages_and_caches": {
        "num_digits": 60,
        "training_steps": 20,
        "jump_steps": 20,
        "quality_steps": 120,
        "quality_runs": 3,
        "staleness_steps": 40,
        "visits_counted": 400,
        "build_steps": 20,
    },
    "04_metropolis_hastings": {"num_digits": 60},
    "05_emc2": {
        "tables": 1,
        "checkpoints": [20, 40],
        "training_seeds": 2,
        "training_steps": 20,
        "coin_steps": 20,
        "profile_steps": 8,
    },
    "06_the_gradient_laboratory": {
        "num_digits": 60,
        "training_steps": 20,
        "quality_visits": [2, 4],
        "quality_seeds": 2,
        "noise_steps": 64,
        "coin_steps": 64,
        "own_steps": 10,
        "priced_digits": 40,
        "priced_visits": 2,
        "priced_seeds": 2,
    },
    "07_the_training_run": {"epochs": 2},
    "08_did_it_learn": {"steps": 20, "seeds": 2},
    "09_scaling_out": {"steps": 5, "num_digits": 80},
}

SETUP = """\
import plotly.graph_objects as go
from emc2_lite import course
from emc2_lite.course.figures.parts import Figure
course.start()

def decay(temperature):
    figure = Figure(go.Scatter(y=[1, 1 / (1 + temperature)]))
    figure.finish(f"temperature {temperature}", alt=f"A curve at {temperature}")
    if temperature < 1:
        figure.add_annotation(x=0.5, y=0.5, text="cold")
    return figure
"""
EXPLORE = 'course.explore({}, temperature=course.Slider("temperature", [0.5, 1, 2]))'


@pytest.fixture(scope="module")
def lab():
    if find_chromium() is None:
        reason = "no Chromium or Chrome on the PATH: the chapters were not looked at in a browser"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with JupyterLab() as lab:
        yield lab


def notebook(path: Path, *cells: str) -> Path:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    book.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(book, path)
    return path


def problems_of(lab: JupyterLab, path: Path, exercises: list[str] = []) -> list[str]:  # noqa: B006
    page = lab.open(path)
    run_all(page)
    found = problems(page)
    lines = exercise_lines(page, exercises)
    found += [line for line in lines if not line.partition(": ")[2].startswith("right")]
    found += [f"{len(lines)} lines for {len(exercises)} exercises"] * (len(lines) != len(exercises))
    lab.close(page)
    return found


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_works_in_the_browser(lab, tmp_path, chapter):
    copy, solutions = tmp_path / chapter.name, chapter.parent / "solutions" / f"{chapter.stem}.py"
    book = parameterize_notebook(load_notebook_node(str(chapter)), SMALL[chapter.stem])
    book = solved(book, solutions) if solutions.exists() else book
    nbformat.write(book, copy)
    exercises = [name for cell in book.cells if cell.cell_type == "code" for name in CHECKED.findall(cell.source)]
    assert problems_of(lab, copy, exercises) == []
    assert lab.outside == []


def test_figures_and_sliders_work(lab, tmp_path):
    path = notebook(tmp_path / "sound.ipynb", SETUP, EXPLORE.format("decay"), "decay(1)")
    assert problems_of(lab, path) == []


def test_planted_faults_are_found(lab, tmp_path):
    faults = {
        EXPLORE.format("lambda temperature: decay(1 / (1 - temperature))"): "ZeroDivisionError",
        EXPLORE.format("lambda temperature: decay(1)"): "the picture did not change",
        "decay(1).update_layout(height=20)": "1 figures are blank",
        "decay()": "TypeError",
        "print('behind the error')": "1 cells did not run",
    }
    found = problems_of(lab, notebook(tmp_path / "faulty.ipynb", SETUP, *faults))
    assert len(found) == len(faults)
    for expected in faults.values():
        assert any(expected in problem for problem in found), found


def test_requests_to_other_machines_are_seen(lab, tmp_path):
    cell = "from IPython.display import HTML; HTML('<img src=\"http://192.0.2.1/pixel.png\">')"
    problems_of(lab, notebook(tmp_path / "outside.ipynb", cell))
    assert set(lab.outside) == {"http://192.0.2.1/pixel.png"}


def test_stored_figure_moves_without_a_kernel_run(lab, tmp_path):
    from emc2_lite.course.curation import remake

    path = notebook(tmp_path / "stored.ipynb", SETUP, EXPLORE.format("decay"))
    assert remake(path) is None
    page = lab.open(path)
    page.locator(".jp-RenderedPlotly").hover()
    plot = page.locator(".jp-RenderedPlotly .main-svg").first
    plot.wait_for()
    rail = page.locator(".slider-rail-touch-rect")

    def shown_after_click_at(share: float) -> str:
        box = rail.bounding_box()
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        page.wait_for_timeout(500)
        return page.locator(".jp-RenderedPlotly").inner_text()

    warm, cold = shown_after_click_at(0.99), shown_after_click_at(0.01)
    lab.close(page)
    assert "temperature 2" in warm and "cold" not in warm
    assert "temperature 0.5" in cold and "cold" in cold


def test_quick_keys_leave_no_backlog_and_the_slider_speaks(lab, tmp_path):
    """After twenty keys at once the figure shows the last value within a second; a screen reader hears it."""
    slider = 'course.Slider("temperature", [k / 10 for k in range(1, 30)], unit="nats")'
    cell = f"course.explore(decay, temperature={slider})"
    page = lab.open(notebook(tmp_path / "quick.ipynb", SETUP, cell))
    run_all(page)
    handle = page.locator(".emc2-slider input")
    handle.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.gtitle')?.textContent === 'temperature 2.1'", timeout=1000)
    plot = page.locator(".js-plotly-plot")
    assert handle.get_attribute("aria-valuetext") == "2.1 nats"
    assert plot.get_attribute("role") == "img" and plot.get_attribute("aria-label") == "A curve at 2.1"
    assert page.locator(".emc2-hint").inner_text() == "keys ← →"
    lab.close(page)


def test_a_live_figure_is_as_wide_as_its_place(lab, tmp_path):
    page = lab.open(notebook(tmp_path / "wide.ipynb", SETUP, EXPLORE.format("decay"), "decay(1)"))
    run_all(page)
    for width in (1100, 600, 1400):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(700)
        for plot, svg in page.evaluate(SIZES):
            assert plot["width"] == svg["width"] > width - 260
            assert plot["height"] == svg["height"] == 420
    lab.close(page)


SIZES = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot =>
    [plot, plot.querySelector('.main-svg')].map(node => node.getBoundingClientRect().toJSON()))"""


def test_the_chain_is_stepped_through_as_python_computed_it(lab, tmp_path):
    from emc2_lite.course.stepper import chain_of

    similarities, temperatures = [0.6, 0.5, 0.1, -0.3], [0.1, 0.5, 1.0]
    cell = f"""import torch
from emc2_lite.course.stepper import step_through
step_through(torch.tensor({similarities}), torch.zeros(4, 8, 8), {temperatures}, start=0.5)"""
    page = lab.open(notebook(tmp_path / "chain.ipynb", SETUP, cell))
    run_all(page)
    chain = chain_of(torch.tensor(similarities), torch.zeros(4, 8, 8), temperatures, start=0.5)
    said = page.locator(".emc2-said")

    def expected(level, seed, step):
        now = chain["levels"][level]
        end = "accepted" if now["accepted"][seed][step - 1] else "rejected"
        proposal = f"Step {step} proposes candidate {chain['proposals'][seed][step - 1]}"
        return proposal, end, f"histogram {now['distance'][seed][step - 1]:.2f}"

    def press(name, times=1):
        for _ in range(times):
            page.get_by_role("button", name=name).click()

    press("Step", 7)
    assert all(words in said.inner_text() for words in expected(1, 0, 7))
    page.locator(".emc2-stepper input").focus()
    page.keyboard.press("ArrowLeft")
    assert all(words in said.inner_text() for words in expected(0, 0, 7))
    press("New seed")
    assert said.inner_text().startswith("No step yet")
    press("Play")
    page.wait_for_function("() => document.querySelector('.emc2-said').textContent.startsWith('Step 3')", timeout=5000)
    press("Pause")
    press("Step")
    step = int(said.inner_text().split()[1])
    assert all(words in said.inner_text() for words in expected(0, 1, step))
    press("Reset")
    assert said.inner_text().startswith("No step yet")
    lab.close(page)
