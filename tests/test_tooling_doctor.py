"""The doctor's report on a sound machine, and on lacks that the tests make up."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from emc2_lite import cli, doctor, installation


def finding(subject: str) -> doctor.Finding:
    return next(found for found in doctor.examine() if found.subject == subject)


@pytest.fixture
def only(monkeypatch):
    def choose(*subjects: str) -> None:
        monkeypatch.setattr(doctor, "CHECKS", {subject: doctor.CHECKS[subject] for subject in subjects})

    return choose


def test_nothing_is_lacking_on_this_machine():
    result = CliRunner().invoke(cli.main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == len(doctor.CHECKS) + 1
    assert result.output.splitlines()[-1] == "Everything that the course needs is here."


@pytest.fixture
def without(monkeypatch):
    """Hide the metadata of packages, so that they seem not to be installed."""

    def hide(*packages: str) -> None:
        def version_of_others(package):
            if package in packages:
                raise PackageNotFoundError(package)
            return version(package)

        monkeypatch.setattr(doctor, "version", version_of_others)

    return hide


def test_a_missing_package_of_the_library_is_a_lack_with_a_remedy(only, without):
    only("numba", "data")
    without("numba", "scikit-learn")
    assert finding("numba") == doctor.Finding("numba", "lack", "numba is not installed", doctor.INSTALL)
    result = CliRunner().invoke(cli.main, ["doctor"])
    assert result.exit_code == 1
    assert "lack     numba: numba is not installed (run" in result.output
    assert "lack     data: scikit-learn is not installed (run" in result.output


COURSE_PARTS = {
    "plotly": ("widgets", "the figures of chapters and runs"),
    "anywidget": ("widgets", "the figures of chapters and runs"),
    "ipywidgets": ("widgets", "the figures of chapters and runs"),
    "jupyterlab": ("JupyterLab", '"emc2-lite lab"'),
    "papermill": ("JupyterLab", '"emc2-lite course"'),
    "ipykernel": ("kernel", "the chapters"),
    "jupyter-client": ("kernel", "the chapters"),
}


@pytest.mark.parametrize("package", COURSE_PARTS)
def test_a_missing_package_of_the_course_is_a_warning_that_names_its_use(only, without, package):
    subject, work = COURSE_PARTS[package]
    only(subject)
    without(package)
    remedy = f"needed for {work} alone: {doctor.INSTALL}"
    assert finding(subject) == doctor.Finding(subject, "warning", f"{package} is not installed", remedy)


def test_the_library_without_the_course_is_sound(only, without):
    only("Python", "torch", "torchvision", "numba", "data", "widgets", "JupyterLab", "kernel")
    without(*COURSE_PARTS)
    result = CliRunner().invoke(cli.main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert result.output.count("warning") == 3
    assert result.output.splitlines()[-1] == "Everything that the library needs is here."


INSTALLED = {
    "an editable clone": (
        {"url": "file:///home/a%20b/emc2", "dir_info": {"editable": True}},
        "editable, from the folder /home/a b/emc2",
        'run "make setup" in /home/a b/emc2, or "pip install -e .[widgets]" there',
    ),
    "a folder": (
        {"url": "file:///home/emc2", "dir_info": {}},
        "from the folder /home/emc2",
        'run "make setup" in /home/emc2, or "pip install .[widgets]" there',
    ),
    "a wheel that is gone": (
        {"url": "file:///gone/emc2_lite-0.1.0-py3-none-any.whl", "archive_info": {}},
        "from the wheel /gone/emc2_lite-0.1.0-py3-none-any.whl",
        'pip install ".../emc2_lite-0.1.0-py3-none-any.whl[widgets]"',
    ),
    "a source distribution": (
        {"url": "file:///gone/emc2_lite-0.1.0.tar.gz", "archive_info": {}},
        "from the source distribution /gone/emc2_lite-0.1.0.tar.gz",
        'pip install ".../emc2_lite-0.1.0.tar.gz[widgets]"',
    ),
    "a repository": (
        {"url": "https://example.org/you/emc2-lite", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}},
        "from git+https://example.org/you/emc2-lite, revision 0123456789ab",
        'pip install "emc2-lite[widgets] @ git+https://example.org/you/emc2-lite@0123456789abcdef"',
    ),
    "an archive elsewhere": (
        {"url": "https://example.org/emc2.zip", "archive_info": {}},
        "from https://example.org/emc2.zip",
        'pip install "emc2-lite[widgets] @ https://example.org/emc2.zip"',
    ),
    "an index": (None, "from a package index", 'pip install "emc2-lite[widgets]", from the same index'),
}


@pytest.fixture
def noted(monkeypatch, tmp_path):
    """Let pip's notes on the package be these texts, and the library run from a folder without pyproject.toml."""

    def note(*texts: str | None) -> None:
        found = [SimpleNamespace(read_text=lambda name, text=text: text) for text in texts]
        monkeypatch.setattr(installation, "distributions", lambda name: found)
        monkeypatch.setattr(installation, "ROOT", tmp_path)

    return note


@pytest.mark.parametrize(("note", "source", "remedy"), INSTALLED.values(), ids=INSTALLED)
def test_each_way_of_installation_has_its_words_and_remedy(noted, note, source, remedy):
    noted(None, "no JSON", note and json.dumps(note))  # the first two as a folder's egg-info and a damaged note
    assert installation.installation("widgets") == (source, remedy)


def test_a_wheel_that_is_still_there_is_named_with_its_path(noted, tmp_path):
    wheel = tmp_path / "emc2_lite-0.1.0-py3-none-any.whl"
    wheel.touch()
    noted(json.dumps({"url": wheel.as_uri(), "archive_info": {}}))
    assert installation.installation().remedy == f'pip install "{wheel}[course]"'


def test_two_copies_of_the_library_are_a_warning(only, noted, monkeypatch, tmp_path):
    only("emc2-lite")
    assert finding("emc2-lite").verdict == "ok"
    noted(json.dumps({"url": "file:///elsewhere", "dir_info": {"editable": True}}))
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    words = f"runs from {tmp_path}, but is installed editable, from the folder /elsewhere"
    assert finding("emc2-lite")[1:3] == ("warning", words)


@pytest.mark.parametrize("subject", ["numba", "widgets"])
def test_a_library_that_was_never_installed_is_a_lack(only, monkeypatch, subject):
    def missing(name):
        raise PackageNotFoundError(name)

    only(subject)
    monkeypatch.setattr(doctor, "requires", missing)
    assert finding(subject) == doctor.Finding(subject, "lack", "emc2-lite is not installed", doctor.INSTALL)


def test_an_old_or_broken_package_of_the_course_is_a_lack(only, monkeypatch):
    only("JupyterLab")
    monkeypatch.setattr(doctor, "version", lambda package: "3.6")
    assert finding("JupyterLab")[1:3] == ("lack", "jupyterlab 3.6 is older than 4.2")
    monkeypatch.undo()
    only("JupyterLab")

    def broken(module):
        raise ImportError("cannot import name 'x'")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    assert finding("JupyterLab").verdict == "lack"
    assert "does not import: ImportError: cannot import name 'x'" in finding("JupyterLab").words


def test_an_old_package_is_a_lack(only, monkeypatch):
    only("widgets")
    monkeypatch.setattr(doctor, "version", lambda package: "5.24.1")
    assert finding("widgets").words == "plotly 5.24.1 is older than 6.1.1"


def test_a_torchvision_built_for_another_torch_is_a_lack(only, monkeypatch):
    only("torchvision")
    importer = doctor.importlib.import_module

    def broken(module):
        if module == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return importer(module)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    found = finding("torchvision")
    assert found.verdict == "lack"
    assert "operator torchvision::nms does not exist" in found.words
    assert "installed together" in found.remedy


def test_an_old_python_is_a_lack(only, monkeypatch):
    only("Python")
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 2, "final", 0))
    assert finding("Python")[1:] == ("lack", "3.9.2", "install Python 3.11 or newer")


def test_too_little_memory_or_disk_and_no_browser_are_warnings(only, monkeypatch):
    only("memory", "disk", "browser")
    monkeypatch.setattr(doctor.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 500_000, "SC_PAGE_SIZE": 4096}[name])
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e9))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    found = list(doctor.examine())
    assert [each.verdict for each in found] == ["warning"] * 3
    assert [each.words for each in found] == ["2 GB", "1 GB free here", "no Chromium or Chrome"]
    assert all(each.remedy for each in found)
    assert CliRunner().invoke(cli.main, ["doctor"]).exit_code == 0


@pytest.mark.parametrize(("value", "verdict"), [(None, "ok"), ("1", "ok"), ("0", "warning"), ("many", "warning")])
def test_thread_settings_are_judged(only, monkeypatch, value, verdict):
    only("threads")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert finding("threads").verdict == verdict


def test_a_kernel_of_another_python_is_a_warning(only, monkeypatch):
    only("kernel")
    monkeypatch.setattr(doctor, "KERNEL_QUESTION", "print('/usr/bin/another-python')")
    assert finding("kernel").verdict == "warning"
    assert "/usr/bin/another-python" in finding("kernel").words


def test_a_kernel_without_the_library_is_a_lack(only, monkeypatch):
    only("kernel")
    monkeypatch.setattr(doctor, "KERNEL_QUESTION", "import no_such_library; print(1)")
    assert finding("kernel").words == "it starts, but cannot import emc2_lite"


def test_a_check_that_breaks_is_reported_and_the_others_go_on(monkeypatch):
    def broken():
        raise OSError("libsomething.so.1: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor, "CHECKS", {"first": broken, "Python": doctor.python})
    first, second = doctor.examine()
    assert first.words == "the check itself failed: OSError: libsomething.so.1: cannot open shared object file"
    assert second.verdict == "ok"


def test_the_doctor_runs_where_nothing_heavy_can_be_imported():
    program = """
import sys
HEAVY = {"torch", "torchvision", "numpy", "sklearn", "numba", "plotly", "anywidget", "ipywidgets", "jupyterlab",
         "papermill", "ipykernel", "jupyter_client", "tqdm", "nbformat"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ImportError(f"{name} is broken")
sys.meta_path.insert(0, Blocker())
from emc2_lite.cli import main
main(["doctor"])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert "does not import: ImportError: torch is broken" in result.stdout
    assert result.stdout.count("lack ") == 7
    assert "7 of the things above are lacking" in result.stderr
