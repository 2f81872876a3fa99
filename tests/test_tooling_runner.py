"""The chapters' runner and the curation of what is committed, tried on small notebooks."""

import base64
import io
import json
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("papermill")

from emc2_lite.course.curation import NotCommittable, curate, machine_traces, remake, save
from emc2_lite.course.runner import execute

HIDDEN_ERROR = "import ipywidgets\nipywidgets.interactive(lambda a: 1 / a, a=ipywidgets.IntSlider(0))"


def write(folder: Path, *sources: str, name: str = "chapter.ipynb") -> Path:
    cells = [nbformat.v4.new_markdown_cell("# A chapter"), *map(nbformat.v4.new_code_cell, sources)]
    path = folder / name
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def executed(*outputs: dict, source: str = "1") -> nbformat.NotebookNode:
    outputs = [nbformat.from_dict(output) for output in outputs]
    cell = nbformat.v4.new_code_cell(source, execution_count=7, outputs=outputs, metadata={"papermill": {"x": 1}})
    return nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": 1}, "papermill": {"input_path": "a"}})


def printed(text: str, name: str = "stdout") -> dict:
    return {"output_type": "stream", "name": name, "text": text}


def test_a_chapter_runs_in_its_own_folder_with_this_python(tmp_path):
    chapter = write(tmp_path, "import os, sys\nprint(os.getcwd(), sys.executable, os.environ['WHO'])", "1 + 1")
    seen = []
    result = execute(
        chapter,
        tmp_path / "out" / "chapter.ipynb",
        environment={"WHO": "reader"},
        on_cell=lambda *place: seen.append(place),
    )
    assert (result.chapter, result.cells, result.error, result.warnings) == ("chapter", 2, None, ())
    assert seen == [(1, 2), (2, 2)]
    first, second = nbformat.read(tmp_path / "out" / "chapter.ipynb", 4).cells[1:]
    assert first.outputs[0].text.split() == [str(tmp_path), sys.executable, "reader"]
    assert second.outputs[0].data["text/plain"] == "2"


def test_a_failing_cell_is_named_with_its_error_and_the_notebook_is_kept(tmp_path):
    result = execute(write(tmp_path, "x = 1", "print(y)", "x"), tmp_path / "out.ipynb")
    assert result.error == "cell [2]: NameError: name 'y' is not defined"
    assert "NameError" in (tmp_path / "out.ipynb").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_error_hidden_in_a_widget_is_found(tmp_path):
    result = execute(write(tmp_path, "x = 1", HIDDEN_ERROR), tmp_path / "out.ipynb")
    assert result.error == "cell [2], inside its widget: ZeroDivisionError: division by zero"


def test_a_dead_kernel_is_named_and_leaves_no_half_written_file(tmp_path):
    output = tmp_path / "out" / "chapter.ipynb"
    output.parent.mkdir()
    output.write_text("from an earlier run")
    result = execute(write(tmp_path, "x = 1", "import os; os._exit(3)"), output)
    assert result.error == "cell [2]: the kernel died; was there enough memory?"
    assert list(output.parent.iterdir()) == []


def test_a_file_that_is_no_notebook_is_an_error_of_that_chapter(tmp_path):
    (tmp_path / "chapter.ipynb").write_text("{")
    assert "NotJSONError" in execute(tmp_path / "chapter.ipynb", tmp_path / "out.ipynb").error


def test_stderr_is_a_warning(tmp_path):
    result = execute(write(tmp_path, "import sys; print('careful', file=sys.stderr)"), tmp_path / "out.ipynb")
    assert result.error is None
    assert result.warnings == ("cell [1] wrote to stderr: careful",)


def test_curation_keeps_outputs_and_drops_what_belongs_to_one_run():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "IntSlider(value=0)"}
    value = {"output_type": "execute_result", "execution_count": 7, "metadata": {}, "data": {"text/plain": "1"}}
    widget = {"output_type": "display_data", "metadata": {}, "data": view}
    notebook = curate(executed(printed("hello"), widget, value))
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    cell = notebook.cells[0]
    assert cell.metadata == {}
    assert cell.execution_count == 1
    assert [output.output_type for output in cell.outputs] == ["stream", "execute_result"]
    assert cell.outputs[1].execution_count == 1


def test_curation_stores_pictures_in_256_colours_that_look_the_same():
    """Red and blue grow across and down, green is noise; the upper half is transparent, as the paper of a figure is."""
    across = np.linspace(0, 255, 200).astype(np.uint8)
    pixels = np.zeros((200, 200, 4), np.uint8)
    pixels[..., 0], pixels[..., 2], pixels[100:, :, 3] = across, across[:, None], 255
    pixels[..., 1] = np.random.default_rng(0).integers(0, 40, (200, 200))
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    picture = base64.b64encode(content.getvalue()).decode()
    shown = {"output_type": "display_data", "metadata": {}, "data": {"image/png": picture, "text/plain": "a"}}
    (output,) = curate(executed(shown)).cells[0].outputs
    stored = np.array(Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGBA")).astype(int)
    assert len(output.data["image/png"]) < 0.5 * len(picture) and output.data["text/plain"] == "a"
    assert (stored[..., 3] == pixels[..., 3]).all() and np.abs(stored - pixels)[100:].mean() < 8


def test_cell_ids_depend_on_the_sources_alone_and_differ():
    cells = [nbformat.v4.new_markdown_cell("same"), nbformat.v4.new_markdown_cell("same")]
    ids = [[cell.id for cell in curate(nbformat.v4.new_notebook(cells=cells)).cells] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


@pytest.mark.parametrize(
    "text",
    [
        "/home/ada/emc2",
        "in /Users/ada/x",
        "'/tmp/a.txt'",
        "C:\\Users\\ada",
        "lib/site-packages/torch",
        "at 0x7f12ab34cd56>",
    ],
)
def test_outputs_with_traces_of_the_machine_are_refused(text):
    with pytest.raises(NotCommittable, match=r"cell \[7\] shows"):
        curate(executed(printed(text)))


def test_private_folders_are_refused_and_similar_text_is_not(tmp_path):
    assert list(machine_traces(executed(printed(f"saved to {tmp_path}/x")), (tmp_path,)))
    assert not list(machine_traces(executed(printed("a/tmp/b aGVsbG8/tmp/xyz tmp/ 1/home")), (Path("/"),)))


def test_stderr_is_refused():
    with pytest.raises(NotCommittable, match="stderr: careful"):
        curate(executed(printed("careful", "stderr")))


def test_a_failed_save_leaves_the_old_notebook(tmp_path, monkeypatch):
    path = write(tmp_path, "1")
    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
    with pytest.raises(OSError, match="full"):
        save(nbformat.v4.new_notebook(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_remaking_twice_gives_the_same_bytes_and_a_bad_chapter_is_left_alone(tmp_path):
    folder = tmp_path / "chapters"
    folder.mkdir()
    good = write(folder, "import os\nprint(os.environ['EMC2_COURSE_OUTPUT'])")
    assert remake(good) is None
    first = good.read_bytes()
    assert remake(good) is None
    assert good.read_bytes() == first
    assert json.loads(first)["cells"][1]["outputs"][0]["text"] == ["static\n"]
    bad = write(folder, "1 / 0", name="bad.ipynb")
    before = bad.read_bytes()
    assert remake(bad) == "cell [1]: ZeroDivisionError: division by zero"
    assert bad.read_bytes() == before
