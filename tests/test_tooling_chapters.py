"""Every committed chapter is freshly executed, small, and free of its author's machine."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from emc2_lite.course.address import address, badge, first_cell
from emc2_lite.course.curation import machine_traces
from emc2_lite.course.runner import WIDGET_VIEW, stderr_lines

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
LARGEST = 1_500_000
LONGEST_CELL = 30

pytestmark = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


def test_name_and_size(path):
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
    assert path.stat().st_size < LARGEST


def test_it_begins_with_a_title_and_the_first_cell(path):
    title = cells(path, "markdown")[0].source
    assert title.startswith("# ")
    line = badge(address(), f"chapters/{path.name}")
    assert line in title
    assert ("colab badge" in title) == bool(line)
    assert cells(path)[0].source == first_cell(address())


def test_it_was_executed_once_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in cells(path):
        for output in cell.outputs:
            assert output.get("execution_count", cell.execution_count) == cell.execution_count
            assert output.output_type != "error"


def test_it_holds_no_stderr_widget_or_trace_of_a_machine(path):
    notebook = nbformat.read(path, 4)
    assert list(stderr_lines(notebook)) == []
    assert list(machine_traces(notebook, (ROOT, Path.home()))) == []
    assert not any(WIDGET_VIEW in output.get("data", {}) for cell in cells(path) for output in cell.outputs)


def test_its_metadata_is_the_kernel_and_nothing_else(path):
    metadata = nbformat.read(path, 4).metadata
    assert metadata == {
        "kernelspec": {"display_name": "Python 3", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in cells(path) + cells(path, "markdown"):
        assert set(cell.metadata) <= {"tags", "jupyter", "cellView"}


def test_its_parameters_are_literals(path):
    (parameters,) = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", ())]
    for statement in ast.parse(parameters.source).body:
        assert isinstance(statement, ast.Assign | ast.AnnAssign)
        ast.literal_eval(statement.value)


def test_its_code_cells_are_short(path):
    for cell in cells(path):
        assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.source


def test_some_outputs_are_compared_again(path):
    assert any("nbval-check-output" in cell.metadata.get("tags", ()) for cell in cells(path))


def test_its_links_lead_somewhere(path):
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", cell.source):
            assert (path.parent / target).exists(), target
