"""Pages that no notebook has: which figures are of a record, docstrings as pages, the table of minutes."""

import nbformat

from emc2_lite.course import pages

PICTURE = {"text/html": '<figure id="figure-1">'}
DRAWS = nbformat.v4.new_output("display_data", PICTURE)


def page(path, *cells):
    """A page whose cells draw a figure each where their code ends with `draw(...)`."""
    made = [nbformat.v4.new_code_cell(code, outputs=[DRAWS] if "draw(" in code else []) for code in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def figures(tmp_path, *cells):
    return len(pages._figures(page(tmp_path / "page.ipynb", *cells), "jump"))


def test_a_figure_is_of_the_record_whose_rows_it_draws(tmp_path):
    read = 'rows = read_record("jump")["final"]'
    assert figures(tmp_path, read, "draw(rows)") == 1
    assert figures(tmp_path, read, "chosen = [row for row in rows]", "draw(chosen)") == 1
    assert figures(tmp_path, read, "def one(b):\n    return rows[b]", "draw(lambda b: one(b))") == 1
    assert figures(tmp_path, read, "draw(other)") == 0
    assert figures(tmp_path, 'rows = read_record("jumps")["final"]', "draw(rows)") == 0


def test_a_name_that_is_made_anew_is_no_longer_of_the_record(tmp_path):
    read = 'rows = read_record("jump")["final"]'
    assert figures(tmp_path, read, 'rows = read_record("map")["final"]', "draw(rows)") == 0
    assert figures(tmp_path, read, "draw([rows for rows in others])") == 0
    assert figures(tmp_path, read, "draw(lambda rows: rows + 1)") == 0


def test_each_record_has_a_row_in_the_card_of_the_data():
    card = pages.card_of_records(pages.ROOT / "data" / "README.md")
    assert card.keys() == {path.stem for path in (pages.ROOT / "data" / "records").glob("*.json")}
    assert card["jump"]["command that makes it again"] == "`emc2-lite experiment jump`"


def test_settings_have_the_names_by_which_a_command_changes_them():
    config = {
        "views": ["stored", "endless"],
        "loss": {"method": "EMC2", "temperature": 0.2},
        "hidden": None,
        "seeds": 3,
    }
    expected = {"views": "`stored`, `endless`", "loss.method": "`EMC2`", "loss.temperature": "0.2", "hidden": "–"}
    assert dict(pages._settings(config)) == expected


def test_a_docstring_keeps_formulas_and_examples_and_escapes_signs():
    text = """The sum over |neg(r)| of x_k * y.

        loss = sum_k w(r, k)

    * "a" is one, and
      goes on.

    Args:
        first, second: two numbers, and
            their meaning.
    Raises: ValueError: if not.

    >>> 1 + 1
    2"""
    lines = pages.plain_docstring([line[4:] if line.startswith("    ") else line for line in text.split("\n")])
    assert lines[0] == "The sum over \\|neg(r)\\| of x\\_k \\* y."
    assert lines[lines.index("::") + 2] == "       loss = sum_k w(r, k)"
    assert '* "a" is one, and goes on.' in lines
    assert "* `first, second`: two numbers, and their meaning." in lines
    assert "Raises: ValueError: if not." in lines
    assert lines[lines.index(">>> 1 + 1") + 1] == "2"


def test_the_minutes_are_those_of_the_chapters_first_cells():
    rows = pages.times().splitlines()
    assert len(rows) == 2 + 10 + 1
    numbers = [[int(cell) for cell in row.strip("| ").split(" | ")[1:]] for row in rows[2:]]
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    assert numbers[-1][2] == 73
