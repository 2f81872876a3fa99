"""The first cell of a chapter and the Colab badge, made from one address."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from emc2_lite.course.address import NO_WHEEL, address, badge, first_cell, main, set_address, with_badge

ROOT = Path(__file__).parents[1]
URL = "https://github.com/you/emc2-lite"
PROJECT = '[project]\nname = "emc2-lite"\n\n[project.urls]\n\n[tool.other]\nRepository = "kept"\n'


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "README.md").write_text("# The course\n\nText.\n")
    (tmp_path / "chapters").mkdir()
    for name in ("00_start_here", "05_emc2"):
        cells = [nbformat.v4.new_markdown_cell("# Title\n\nA sentence."), nbformat.v4.new_code_cell(first_cell(""))]
        notebook = nbformat.v4.new_notebook(cells=cells)
        (tmp_path / "chapters" / f"{name}.ipynb").write_text(nbformat.writes(notebook) + "\n")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_first_cell_is_one_line_and_never_installs_by_a_bare_name():
    for url in ("", URL):
        cell = first_cell(url)
        compile(cell, "cell", "exec")
        assert "\n" not in cell
        assert cell.count("install -q") == 1
    assert '"emc2-lite[widgets] @ git+https://github.com/you/emc2-lite"' in first_cell(URL)
    assert 'glob("./emc2_lite-*.whl")' in first_cell("")


def test_setting_and_removing_the_address_comes_back_to_the_same_bytes(repository):
    before = contents(repository)
    assert len(set_address(URL + ".git/", repository)) == 4
    assert address(repository) == URL
    assert set_address(URL, repository) == []
    urls = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["urls"]
    assert urls == {"Homepage": URL, "Documentation": f"{URL}#readme", "Source": URL, "Issues": f"{URL}/issues"}
    assert len(set_address("https://github.com/other/fork", repository)) == 4
    assert (repository / "pyproject.toml").read_text().count("fork") == 4
    set_address(URL, repository)
    title, code = nbformat.read(repository / "chapters" / "05_emc2.ipynb", 4).cells
    assert code.source == first_cell(URL)
    assert title.source == f"# Title\n\n{badge(URL, 'chapters/05_emc2.ipynb')}\n\nA sentence."
    assert "colab.research.google.com/github/you/emc2-lite/blob/main/chapters/05_emc2.ipynb" in title.source
    assert "blob/main/chapters/00_start_here.ipynb" in (repository / "README.md").read_text()
    set_address("", repository)
    assert address(repository) == ""
    assert contents(repository) == before


def test_an_address_outside_github_gets_no_badge(repository):
    set_address("https://git.example.org/group/emc2-lite", repository)
    assert "colab" not in (repository / "README.md").read_text()
    assert "git+https://git.example.org/group/emc2-lite" in (repository / "chapters" / "05_emc2.ipynb").read_text()


def test_a_badge_is_replaced_not_added():
    once = with_badge("# T\n\ntext", badge(URL, "chapters/a.ipynb"))
    assert with_badge(once, badge("https://github.com/other/fork", "chapters/a.ipynb")).count("Open in Colab") == 1
    assert with_badge("# T", badge(URL, "a")).startswith("# T\n\n[![Open in Colab]")


@pytest.mark.parametrize(
    "url",
    [
        "emc2-lite",
        "http://github.com/a/b",
        'https://x.org/a/"; rm',
        "https://github.com/a b/c",
        "https://github.com/a/b/tree/main",
    ],
)
def test_a_bad_address_is_one_sentence_and_changes_nothing(repository, url, capsys):
    before = contents(repository)
    with pytest.raises(ValueError, match="is not an address like"):
        set_address(url, repository)
    assert contents(repository) == before
    assert main([url]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_chapter_without_the_first_cell_is_named_and_nothing_changes(repository):
    cells = [nbformat.v4.new_code_cell("import torch")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), repository / "chapters" / "09_scaling_out.ipynb")
    before = contents(repository)
    with pytest.raises(ValueError, match=r"the first code cell of 09_scaling_out.ipynb does not call course.start"):
        set_address(URL, repository)
    assert contents(repository) == before


def packages_in(installed: Path) -> Path:
    return Path(sysconfig.get_paths(vars={"base": str(installed)})["purelib"])


def run_first_cell(folder: Path, *before: str, installed: Path) -> str:
    """What is shown in a notebook in ``folder`` when it runs ``before`` and the first cell, then where the library is.

    The library is to be found in ``installed`` alone; pip is told by its environment to install there, without
    dependencies and without any index, and to leave alone what is installed beside this Python.
    """
    packages = packages_in(installed)
    packages.mkdir(parents=True, exist_ok=True)
    program = f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder)]
sys.path = [{str(packages)!r}] + [path for path in sys.path if path not in ("", {str(ROOT)!r})]
from IPython.core.interactiveshell import InteractiveShell
run = InteractiveShell.instance().run_cell
for cell in {before!r}:
    run(cell).raise_error()
run({first_cell("")!r})
print(getattr(sys.modules.get("emc2_lite"), "__file__", "not imported"))
"""
    pip = {"PIP_PREFIX": str(installed), "PIP_IGNORE_INSTALLED": "1", "PIP_NO_INDEX": "1", "PIP_NO_DEPENDENCIES": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, **pip, "IPYTHONDIR": str(folder / "ipython")},
        capture_output=True,
        text=True,
    )
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", done.stderr + done.stdout).split())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    if not (find_spec("setuptools") and find_spec("uv")):
        pytest.skip("uv and setuptools build the wheel")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "emc2_lite", source / "emc2_lite", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--no-build-isolation", "--offline"]
    subprocess.run([*build, "--python", sys.executable, "--out-dir", folder, source], check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.parametrize("left_behind", [False, True], ids=["nothing is there", "a removed library left its cache"])
def test_the_first_cell_installs_the_wheel_beside_the_notebook(tmp_path, wheel, left_behind):
    package = packages_in(tmp_path / "installed") / "emc2_lite"
    if left_behind:
        (package / "sampling" / "__pycache__").mkdir(parents=True)
        (package / "sampling" / "__pycache__" / "visit.metropolis-1.py311.nbi").write_bytes(b"cache")
    shutil.copy(wheel, tmp_path)
    beside_this_python = list(packages_in(Path(sys.prefix)).glob("*emc2_lite*"))
    shown = run_first_cell(tmp_path, installed=tmp_path / "installed")
    assert "emc2-lite 0." in shown
    assert "Error" not in shown
    assert shown.endswith(str(package / "__init__.py"))
    assert all(path.exists() for path in beside_this_python)


def test_without_a_wheel_the_first_cell_says_what_to_do_in_one_sentence(tmp_path):
    shown = run_first_cell(tmp_path, installed=tmp_path / "installed")
    assert f"AssertionError: {NO_WHEEL}" in shown
    assert "Invalid wheel" not in shown and "ModuleNotFoundError" not in shown
    assert shown.endswith("not imported")


def test_a_package_imported_before_a_newer_one_was_installed_asks_for_a_restart(tmp_path, wheel):
    """Metadata of a newer plotly, first on the path, stands for its installation."""
    metadata = tmp_path / "newer" / "plotly-99.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: plotly\nVersion: 99.0\n")
    shutil.copy(wheel, tmp_path)
    newer = f"import plotly, sys; loaded = plotly.__version__; sys.path.insert(0, {str(metadata.parents[1])!r})"
    shown = run_first_cell(tmp_path, newer, installed=tmp_path / "installed")
    expected = (
        r"RuntimeError: plotly [\d.]+ was imported before 99\.0 was installed: restart the runtime \(the kernel\)"
    )
    assert len(re.findall(expected, shown)) == 1, shown
