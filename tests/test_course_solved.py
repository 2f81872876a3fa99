"""The solved copy of a chapter: every stub replaced by its solution, from one source."""

from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from emc2_lite.course.solved import CHECKED, main, solved, unsolved

CHAPTERS = sorted((Path(__file__).parents[1] / "chapters").glob("[0-9]*.ipynb"))
STUB = """def double(n):
    return ...  # twice the number


double = checks.double(double)"""
BLANK = """build = ...  # from a blank cell

build = checks.build(build)"""
SOLUTIONS = '''"""Solutions."""

import math


def double(n):
    """Twice."""
    return math.fsum((n, n))


class build:
    pass
'''


def book(*cells):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


@pytest.fixture
def solutions(tmp_path):
    path = tmp_path / "solutions.py"
    path.write_text(SOLUTIONS)
    return path


def test_stubs_become_solutions_and_the_first_has_the_imports(solutions):
    learner = book("a = 1", STUB, BLANK)
    first, second, third = (cell.source for cell in solved(learner, solutions).cells)
    assert first == "a = 1"
    assert second.startswith("import math") and "math.fsum" in second
    assert second.endswith("double = checks.double(double)")
    assert third.startswith("class build:") and third.endswith("build = checks.build(build)")
    assert "..." not in second + third and learner.cells[1].source == STUB


def test_a_solution_too_few_or_too_many_is_named(solutions):
    with pytest.raises(ValueError, match="has no solution to the exercise other"):
        solved(book("other = checks.other(...)"), solutions)
    with pytest.raises(ValueError, match="has solutions to no exercise: build"):
        solved(book(STUB), solutions)
    with pytest.raises(ValueError, match=r"neither a definition of double nor the line double = \.\.\."):
        solved(book("double = checks.double(print)", BLANK), solutions)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_exercise_of_a_chapter_has_its_solution_and_its_stored_line(path):
    """The stored copy is the learner's: no exercise is written, and the bugs are still there."""
    notebook = nbformat.read(path, 4)
    copy = solved(notebook, path.parent / "solutions" / f"{path.stem}.py")
    assert len(copy.cells) == len(notebook.cells)
    for cell in notebook.cells:
        for name in CHECKED.findall(cell.source) if cell.cell_type == "code" else ():
            assert "nbval-check-output" in cell.metadata.tags
            (line,) = cell.outputs[0].text.splitlines()
            assert line.startswith((f"{name}: not written yet", f"{name}: not yet: The bug is still in it"))


def test_the_copies_are_written(tmp_path):
    result = CliRunner().invoke(main, [str(CHAPTERS[0]), "--output", str(tmp_path / "copies")])
    assert result.exit_code == 0 and (tmp_path / "copies" / CHAPTERS[0].name).exists()


def test_the_readme_counts_the_exercises():
    code = [cell for path in CHAPTERS for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    count = sum(len(CHECKED.findall(cell.source)) for cell in code)
    assert f"The learner writes the method: {count} exercises" in (CHAPTERS[0].parents[1] / "README.md").read_text()


def test_a_copy_without_solutions_keeps_text_hints_and_stubs():
    """What is taken out of a chapter is its folded solutions and its outputs, and nothing else."""
    for path in CHAPTERS:
        notebook = nbformat.read(path, as_version=4)
        copy = unsolved(notebook)
        text = "\n".join(cell.source for cell in copy.cells)
        assert "Solution</summary>" not in text and "](solutions/" not in text
        assert text.count("<details>") == text.count("</details>")
        whole = "\n".join(cell.source for cell in notebook.cells)
        assert text.count("<summary>Hint") == whole.count("<summary>Hint") > 0
        pairs = list(zip(notebook.cells, copy.cells, strict=True))
        assert all(one.source == other.source for one, other in pairs if one.cell_type == "code")
        assert not any(cell.get("outputs") for cell in copy.cells)
