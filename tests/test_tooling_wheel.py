"""The wheel holds records and chapters, which the installed library finds; the source distribution holds the tests."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Fast tests that read files beside the package: chapters, solutions, the data set's card, records.
READING = [f"tests/test_{name}.py" for name in ("board", "course_solved", "datasets", "records", "tooling_chapters")]
CONFIGS = sorted((ROOT / "emc2_lite" / "training" / "configs").glob("*.toml"))
FIELDS = ("experiment", "config", "seeds", "device", "versions", "revision", "seconds", "metrics", "final")


def uv(*arguments, folder):
    program = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if program is None:
        reason = "uv is not here: make setup installs it"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    done = subprocess.run([program, *arguments, "--quiet"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_installed_wheel_finds_its_records_and_copies_its_chapters(tmp_path):
    source, environment = tmp_path / "source", tmp_path / "environment"
    shutil.copytree(ROOT / "emc2_lite", source / "emc2_lite", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "data" / "records").mkdir(parents=True)
    (source / "data" / "records" / "of_this_test.json").write_text(json.dumps(dict.fromkeys(FIELDS, 42)))
    shutil.copytree(ROOT / "chapters", source / "chapters", ignore=shutil.ignore_patterns(".*"))
    uv("build", "--wheel", "--out-dir", "wheel", "--python", sys.executable, folder=source)
    (wheel,) = (source / "wheel").glob("*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    assert {"emc2_lite/vision/imagenet100.txt", "emc2_lite/py.typed"} <= set(packed)
    assert {f"emc2_lite/training/configs/{path.name}" for path in CONFIGS} <= set(packed)
    uv("venv", "--python", sys.executable, str(environment), folder=tmp_path)
    python = environment / "bin" / "python"
    uv("pip", "install", "--python", str(python), "--no-deps", str(wheel), folder=tmp_path)
    shutil.rmtree(source)
    program = "from emc2_lite.records import read_record; print(read_record('of_this_test')['seconds'])"
    done = in_a_new_python(python, tmp_path, program)
    assert done.stdout.strip() == "42", done.stderr

    place = tmp_path / "place"
    place.mkdir()
    course = in_a_new_python(python, place, "from emc2_lite.cli import main; main(['course', 'no chapter'])")
    assert "there is no chapter 'no chapter'" in course.stderr
    copy = place / "emc2-lite-chapters"
    for pattern in ("*.ipynb", "notation.md", "elsewhere/*.*", "solutions/*.py"):
        for original in (ROOT / "chapters").glob(pattern):
            assert (copy / original.relative_to(ROOT / "chapters")).read_bytes() == original.read_bytes()
    doctor = in_a_new_python(python, place, "import emc2_lite.doctor as d; print(d.package(), d.INSTALL)")
    assert f"installed from the wheel {wheel} pip install" in doctor.stdout, doctor.stderr
    assert f'"{Path("...") / wheel.name}[course]"' in doctor.stdout


def in_a_new_python(python, folder, program):
    """Run a program where the library and its command line find the packages of these tests, but not this clone."""
    paths = [path for path in sys.path if path.endswith("site-packages")]
    append = f"import sys; sys.path += {paths!r}; "
    return subprocess.run([python, "-c", append + program], cwd=folder, capture_output=True, text=True)


def test_the_tests_of_the_source_distribution_run(tmp_path):
    """Build it from the files that git keeps, unpack it, collect its tests, and run some that read files."""
    source = tmp_path / "source"
    dropped = shutil.ignore_patterns(".git", ".venv", ".*cache", "build", "dist", "downloads", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=dropped)
    uv("build", "--sdist", "--out-dir", "dist", "--python", sys.executable, folder=source)
    (archive,) = (source / "dist").glob("*.tar.gz")
    shutil.rmtree(source / "emc2_lite")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    for folder, pattern in (("emc2_lite", "*.py"), ("tests", "*.py"), ("chapters", "*.ipynb"), ("data", "*.json")):
        assert {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob(pattern) if kept(path)} <= files
    assert "emc2_lite/py.typed" in files
    assert not [name for name in files if "__pycache__" in name or name.startswith("build")]
    pytest_here = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    done = subprocess.run([*pytest_here, "--collect-only"], cwd=unpacked, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    for test in ("tests/test_emc2.py", "tests/test_tooling_chapters.py", "tests/test_records_kept.py"):
        assert f"{test}::" in done.stdout
    done = subprocess.run([*pytest_here, *READING], cwd=unpacked, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-2000:]


def kept(path):
    return not {"downloads", ".ipynb_checkpoints"} & {*path.parts}
