"""Declarations that are repeated agree; importing the library needs few packages and no network."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from emc2_lite.cli.chapters import FILES

ROOT = Path(__file__).parents[1]
TOOLS, PROJECT = (tomllib.loads((ROOT / "pyproject.toml").read_text())[name] for name in ("tool", "project"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text().splitlines()
DISTRIBUTIONS = packages_distributions()
NOTEBOOK_PACKAGES = ["plotly", "anywidget", "ipywidgets", "IPython", "ipykernel", "jupyterlab", "papermill", "nbformat"]
CONDA_NAMES = {"torch": "pytorch", "jupyter-client": "jupyter_client"}

EVERY_MODULE = """
import importlib, pkgutil, sys
import emc2_lite
for module in pkgutil.walk_packages(emc2_lite.__path__, "emc2_lite."):
    if not module.name.startswith(SKIPPED):
        importlib.import_module(module.name)
"""


def requirements(*extras: str) -> dict[str, str]:
    """The lower bound of each dependency of the library, of ``extras``, and of the extras that these name."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    found = {}
    for line in lines:
        if nested := re.fullmatch(r"emc2-lite\[(\w+)\]", line):
            found |= requirements(nested[1])
        else:
            name, bound = line.split(">=")
            found[name] = bound
    return found


def in_a_new_python(program: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)


def test_environment_yml_asks_for_the_same_packages_and_bounds():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *packages, own = environment["dependencies"]
    assert own == {"pip": ["--editable ."]}
    expected = {CONDA_NAMES.get(name, name): bound for name, bound in requirements("course").items()}
    expected["python"] = PROJECT["requires-python"].removeprefix(">=")
    bounds = dict(package.split(">=") for package in packages if package != "pip")
    assert bounds == expected


def test_constraints_hold_one_version_of_every_direct_dependency():
    pinned = {line.split("==")[0] for line in CONSTRAINTS}
    assert set(requirements("dev")) <= pinned


def test_constraints_respect_the_lower_bounds():
    versions = {}
    for line in CONSTRAINTS:
        name, version = line.split(" ;")[0].split("==")
        versions.setdefault(name.strip(), []).append(version.strip())
    for name, bound in requirements("dev").items():
        for version in versions[name]:
            assert numbers(version) >= numbers(bound), f"{name} {version} is below {bound}"


def imports(path: Path, *, anywhere: bool) -> Iterator[str]:
    """The distributions of other projects that a file imports: at its top level, or anywhere."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if anywhere else tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for module in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"emc2_lite"}:
            (distribution,) = DISTRIBUTIONS[module]
            yield distribution.lower().replace("_", "-")


BROUGHT_BY_TORCH = {"triton"}  # only by its CUDA builds for Linux, where the library imports triton


@pytest.mark.parametrize(
    "path", sorted((ROOT / "emc2_lite").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_package_that_the_library_imports_is_declared(path):
    """The top level imports the library's dependencies (in course/ the course's), a function those of any extra."""
    at_import = requirements("course") if "course" in path.parts else requirements()
    if path.name != "metropolis_triton.py":
        assert {*imports(path, anywhere=False)} <= {*at_import}
    assert {*imports(path, anywhere=True)} <= {*requirements("dev")} | BROUGHT_BY_TORCH


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def test_constraints_hold_versions_only():
    for line in CONSTRAINTS:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+]+( ; .+)?", line), line
        assert "://" not in line


def test_the_library_imports_without_the_packages_of_notebooks():
    program = f"""
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NOTEBOOK_PACKAGES!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
import sys
sys.meta_path.insert(0, Blocker())
SKIPPED = "emc2_lite.course"
{EVERY_MODULE}
print(len(sys.modules))
"""
    done = in_a_new_python(program)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_nothing_touches_the_network_at_import():
    program = f"""
import socket
def refuse(*arguments, **options):
    raise AssertionError(f"the network was asked for: {{arguments}}")
for name in ("connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.create_connection = refuse
SKIPPED = ("none",)
{EVERY_MODULE}
"""
    done = in_a_new_python(program)
    assert done.returncode == 0, done.stderr


def test_help_and_version_and_the_doctor_import_no_heavy_package():
    program = """
import sys
from contextlib import suppress
import emc2_lite.doctor
from emc2_lite.cli import main
helps = [[name, "--help"] for name in main.commands]
helps += [["config", name, "--help"] for name in main.commands["config"].commands]
for arguments in (["--help"], ["--version"], ["config", "list"], *helps):
    with suppress(SystemExit):
        main(arguments)
    print(sys.modules.keys() & {"torch", "numpy", "numba", "plotly", "papermill", "tqdm"})
"""
    done = in_a_new_python(program)
    assert done.stdout.count("set()\n") == 3 + 10 + 3, done.stdout + done.stderr


def test_the_library_runs_as_a_module_under_the_name_of_its_command():
    command = [sys.executable, "-m", "emc2_lite"]
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("Usage: emc2-lite [OPTIONS] COMMAND"), done.stderr
    wrong = subprocess.run([*command, "experiment", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2 and "there is no experiment 'nothing'" in wrong.stderr


def test_the_version_is_the_same_in_every_file():
    import emc2_lite

    assert emc2_lite.__version__ == PROJECT["version"]
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_ci_tests_each_python_that_the_classifiers_name_and_both_bounds():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert jobs["pythons"]["strategy"]["matrix"]["python"] == named
    assert f">={named[0]}" == PROJECT["requires-python"]
    bounds = {entry["target"]: entry["python"] for entry in jobs["bounds"]["strategy"]["matrix"]["include"]}
    assert bounds == {"oldest": named[0], "newest": named[-1]}
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in bounds)


def test_the_wheel_packs_the_chapters_that_the_command_line_copies():
    packed = TOOLS["setuptools"]["data-files"]
    for pattern in FILES:
        folder = Path("chapters") / Path(pattern).parent
        assert f"chapters/{pattern}" in packed[f"share/emc2-lite/{folder.as_posix()}"]
    packed_chapters = [
        pattern for patterns in packed.values() for pattern in patterns if pattern.startswith("chapters/")
    ]
    assert len(packed_chapters) == len(FILES)


def test_the_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Yau", "Wai", "Raman", "Sarkar", "Hong"]


def test_the_readme_example_runs():
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = in_a_new_python(program)
    assert done.returncode == 0, done.stderr
