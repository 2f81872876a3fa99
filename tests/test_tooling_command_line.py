"""The commands a reader types: make and emc2-lite."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from foreground import in_the_foreground

from emc2_lite import cli

ROOT = Path(__file__).parents[1]


def run(*arguments: str):
    return CliRunner().invoke(cli.main, arguments)


def write(folder: Path, name: str, *sources: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parameters = nbformat.v4.new_code_cell("size = 1", metadata={"tags": ["parameters"]})
    cells = [parameters, *map(nbformat.v4.new_code_cell, sources)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / name)


@pytest.fixture
def course(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "chapters", "00_good.ipynb", "print(size)")
    write(tmp_path / "chapters", "01_bad.ipynb", "1 / 0")
    write(tmp_path / "chapters", "02_good.ipynb", "'last'")
    write(tmp_path / "other", "00_good.ipynb", "'another'")
    return tmp_path


@pytest.fixture(autouse=True)
def no_lab(monkeypatch):
    monkeypatch.setattr(cli.notebooks.os, "execv", lambda *arguments: pytest.fail("JupyterLab would start"))


def make(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_make_lists_every_target_with_a_description():
    listing = make().stdout
    targets = re.findall(r"^([a-z]+):.*?## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"setup", "course", "lab", "test", "chapters", "constraints", "address"} <= set(targets)
    for target in targets:
        assert re.search(rf"make {target} +\S.*", listing)


def test_make_says_what_is_wrong_with_the_python(tmp_path):
    missing = make("setup", "PYTHON=python-that-is-not-here", f"VENV={tmp_path}/venv")
    assert missing.returncode != 0
    assert "There is no python-that-is-not-here here" in missing.stdout
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused = make("setup", f"PYTHON={old}", f"VENV={tmp_path}/venv")
    assert "needs Python 3.11 or newer" in refused.stdout
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.main.commands)])
def test_every_command_has_help(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")


def test_course_runs_every_chapter_and_names_the_failures(course):
    result = run("course")
    assert result.exit_code == 1
    assert "[2/3] 01_bad\n  failed in cell [2]: ZeroDivisionError: division by zero" in result.output
    table = result.output.split("chapter  seconds  cells  result\n")[1].splitlines()
    verdicts = [(line.split()[0], line.split()[-1]) for line in table[:3]]
    assert verdicts == [("00_good", "ok"), ("01_bad", "failed"), ("02_good", "ok")]
    assert "1 of 3 chapters failed: 01_bad." in result.output
    executed = sorted(path.name for path in Path("build/course").iterdir())
    assert executed == ["00_good.ipynb", "01_bad.ipynb", "02_good.ipynb"]


def test_course_takes_chapters_by_number_and_parameters_by_name(course):
    result = run("course", "00", "--output", "elsewhere", "-p", "size", "41 + 1", "-p", "size", "[1, 2]")
    assert result.exit_code == 0, result.output
    assert "[1, 2]" in nbformat.read("elsewhere/00_good.ipynb", 4).cells[2].outputs[0].text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("course", "07"), "there is no chapter '07'"),
        (("course", "none.ipynb"), "there is no chapter 'none.ipynb'"),
        (("course", "00", "-p", "syze", "2"), "no parameter syze in the chosen chapters"),
        (("course", "--frobnicate"), "No such option"),
        (("course", ""), "there is no chapter ''"),
        (("course", "*"), "there is no chapter '*'"),
        (("course", "00", "-p", "size", "1j"), "size is 1j: a parameter is a number, a text, a list or a dictionary"),
        (("course", "--output", "chapters"), "--output is chapters, where the chapters lie: choose another"),
        (("course", "chapters/00_good.ipynb", "other/00_good.ipynb"), "have the same file name"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(course, arguments, sentence):
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.output


def test_an_output_that_cannot_be_written_is_named(course):
    Path("occupied").write_text("a file, not a folder")
    result = run("course", "00", "--output", "occupied/inside")
    assert result.exit_code == 1
    assert "cannot write to occupied/inside" in result.output
    assert len(list(Path("chapters").iterdir())) == 3


def test_missing_extras_are_named_with_what_to_do(course, monkeypatch):
    lacking = ("papermill", "jupyterlab")
    monkeypatch.setattr(cli.notebooks, "find_spec", lambda module: None if module in lacking else module)
    for command, package in (("course", "papermill"), ("lab", "jupyterlab")):
        result = run(command)
        assert result.exit_code == 1
        assert f"{package} not installed" in result.output
        assert "make setup" in result.output


def test_lab_opens_the_chapters_and_passes_further_arguments(course, monkeypatch):
    started = []
    monkeypatch.setattr(cli.notebooks.os, "execv", lambda program, arguments: started.append(arguments))
    assert run("lab", "--no-browser", "--port=9999").exit_code == 0
    assert started == [[sys.executable, "-m", "jupyterlab", "chapters", "--no-browser", "--port=9999"]]


def test_outside_of_a_clone_lab_opens_a_copy_and_keeps_what_the_learner_changed(course, monkeypatch):
    monkeypatch.setattr(cli.chapters, "ROOT", course / "nowhere")
    monkeypatch.setattr(cli.chapters, "data_file", lambda folder, name: course / "installed" / name)
    opened = []
    monkeypatch.setattr(cli.notebooks.os, "execv", lambda program, arguments: opened.append(arguments[3]))
    (course / "chapters").rename(course / "installed")
    (course / "installed" / "solutions").mkdir()
    (course / "installed" / "solutions" / "00_good.py").write_text("answer = 1")
    own = Path("emc2-lite-chapters")
    assert run("lab").output == f"Your chapters are in {course / own}\n"
    assert opened == ["emc2-lite-chapters"]
    assert (own / "solutions" / "00_good.py").read_text() == "answer = 1"

    (own / "00_good.ipynb").write_text("the learner's")
    (own / "01_bad.ipynb").unlink()
    for name in ("00_good.ipynb", "02_good.ipynb"):
        (course / "installed" / name).write_text("of a new version")
    kept = "Kept as you changed them (delete or rename a file to have the package's): 00_good.ipynb\n"
    assert run("lab").output.endswith(kept)
    texts = [(own / f"{name}.ipynb").read_text() for name in ("00_good", "02_good")]
    assert texts == ["the learner's", "of a new version"]
    assert (own / "01_bad.ipynb").is_file()

    monkeypatch.chdir(own)
    assert run("lab").output.startswith(f"Your chapters are in {course / own}\n")
    assert opened[-1] == "."
    assert run("lab", "--folder", str(course / "elsewhere")).exit_code == 0
    assert (course / "elsewhere" / "00_good.ipynb").read_text() == "of a new version"


def test_a_copy_of_the_chapters_that_cannot_be_written_is_one_sentence(course):
    Path("occupied").write_text("a file, not a folder")
    result = run("lab", "--folder", "occupied/inside")
    assert result.exit_code == 1
    assert re.search(
        r"Error: cannot copy the chapters to occupied/inside \(.*\): choose another --folder", result.output
    )


def test_course_executes_copies_in_the_folder_that_it_is_given(course):
    result = run("course", "00", "--folder", "own", "--output", "out")
    assert result.exit_code == 0, result.output
    assert Path("own/00_good.ipynb").read_bytes() == Path("chapters/00_good.ipynb").read_bytes()
    assert Path("out/00_good.ipynb").is_file()
    same = run("course", "00", "--folder", "own", "--output", "own")
    assert same.exit_code == 2 and "where the chapters lie" in same.output


def test_an_installation_without_chapters_says_so(course, monkeypatch):
    monkeypatch.chdir(course / "other")
    monkeypatch.setattr(cli.chapters, "ROOT", course / "nowhere")
    monkeypatch.setattr(cli.chapters, "data_file", lambda folder, name: None)
    result = run("lab")
    assert result.exit_code == 2 and "this installation came without chapters" in result.output


def test_an_interrupted_course_says_so_and_exits_130(course):
    write(course / "chapters", "03_slow.ipynb", "open('started', 'w').close()\nimport time; time.sleep(60)")
    write(course / "build" / "course", "03_slow.ipynb", "'from an earlier run'")
    command = [sys.executable, "-m", "emc2_lite", "course", "03"]
    process = in_the_foreground(command)
    deadline = time.monotonic() + 60
    while not Path("chapters/started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.strip() == "Interrupted. The chapters that were finished are in build/course."
    assert list(Path("build/course").iterdir()) == []
