"""Scripts of a chapter in two processes: what they print, how they fail, and an end in time."""

import pytest

from emc2_lite.course.processes import torchrun


def script(folder, text):
    path = folder / "script.py"
    path.write_text(text)
    return path


def test_a_script_prints_and_finds_its_neighbours_and_arguments(tmp_path, capfd):
    (tmp_path / "neighbour.py").write_text("WORD = 'hello'\n")
    # One write a line: two processes share the pipe, and what print writes in pieces may mix.
    line = "sys.stdout.write(f\"{WORD} {sys.argv[1]} {os.environ['RANK']}\\n\")"
    lines = f"import os, sys\nfrom neighbour import WORD\n{line}\n"
    torchrun(script(tmp_path, lines), 2, "there")
    assert sorted(capfd.readouterr().out.splitlines()) == ["hello there 0", "hello there 1"]


def test_a_failing_script_is_named_with_its_own_error(tmp_path):
    with pytest.raises(RuntimeError, match=r"script\.py failed: ValueError: no such thing$"):
        torchrun(script(tmp_path, "raise ValueError('no such thing')"), 2)


def test_a_script_that_waits_for_ever_is_ended(tmp_path):
    with pytest.raises(TimeoutError, match=r"script\.py did not end within 8 s: a process waits for another"):
        torchrun(script(tmp_path, "import time\ntime.sleep(300)"), 2, seconds=8)
