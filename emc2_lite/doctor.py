"""Check this machine for what the course and the library need, and say how to mend each lack.

Each check imports what it needs itself, so that the doctor also runs where an installation is broken.
"""

import importlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from types import ModuleType
from typing import Any, NamedTuple

from emc2_lite.installation import ROOT, installation

INSTALL = installation().remedy
ON_MAC = tuple(f"/Applications/{name}.app/Contents/MacOS/{name}" for name in ("Google Chrome", "Chromium"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", *ON_MAC)
LEAST_PYTHON = (3, 11)
KERNEL_QUESTION = "import sys, emc2_lite; print(sys.executable)"
_KERNEL_REMEDY = "python -m ipykernel install --sys-prefix"


class Finding(NamedTuple):
    """A line of the report; ``verdict`` is ok, warning or lack, and ``remedy`` says what to do about the last two."""

    subject: str
    verdict: str
    words: str
    remedy: str = ""


class Lack(Exception):
    """Something that the library needs is missing, or something is broken: what, and what to do about it."""


class Warn(Exception):
    """Something is missing that only some users need, or is too small: what, and what to do about it."""


def examine() -> Iterator[Finding]:
    """One finding for each check, in the order of a reader's likely troubles."""
    for subject, check in CHECKS.items():
        try:
            yield Finding(subject, "ok", check())
        except (Lack, Warn) as problem:
            yield Finding(subject, "lack" if isinstance(problem, Lack) else "warning", *problem.args)
        except Exception as failure:
            yield Finding(subject, "lack", f"the check itself failed: {_first_line(failure)}", INSTALL)


def package() -> str:
    try:
        release, source = version("emc2-lite"), installation().source
    except PackageNotFoundError:
        raise Lack(f"runs from {ROOT}, but is not installed", INSTALL) from None
    if (ROOT / "pyproject.toml").is_file() and not any(str(root) in source for root in (ROOT, ROOT.resolve())):
        raise Warn(f"runs from {ROOT}, but is installed {source}", "leave this folder, or install what is in it")
    return f"{release}, installed {source}"


def python() -> str:
    release = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < LEAST_PYTHON:
        raise Lack(release, f"install Python {'.'.join(map(str, LEAST_PYTHON))} or newer")
    return f"{release} at {sys.executable}"


def torch() -> str:
    torch = _load("torch")
    float((torch.ones(2, 2) @ torch.ones(2, 2)).sum())
    if torch.cuda.is_available():
        return f"{torch.__version__}, {torch.cuda.get_device_name()}"
    gpu = torch.backends.mps.is_available()
    return f"{torch.__version__}, {'Apple GPU (MPS)' if gpu else 'CPU, which is enough for every chapter'}"


def torchvision() -> str:
    torch, vision = _load("torch"), _load("torchvision")
    vision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    return f"{vision.__version__}, built for this torch"


def compiler() -> str:
    numba = _load("numba")
    if numba.njit(lambda x: x + 1)(1) != 2:
        raise Lack("numba compiles, but wrongly", INSTALL)
    return f"numba {numba.__version__} compiles"


def data() -> str:
    images = _load("sklearn.datasets", "scikit-learn").load_digits().images
    if images.shape != (1797, 8, 8):
        raise Lack(f"digits of shape {images.shape} instead of (1797, 8, 8)", INSTALL)
    return "1,797 digits of 8 x 8 pixels, shipped with scikit-learn"


def widgets() -> str:
    names = ("plotly", "anywidget", "ipywidgets")
    return ", ".join(f"{name} {_load(name, work='the figures of chapters and runs').__version__}" for name in names)


def jupyterlab() -> str:
    lab, runner = _load("jupyterlab", work='"emc2-lite lab"'), _load("papermill", work='"emc2-lite course"')
    return f"JupyterLab {lab.__version__}, papermill {runner.__version__}"


def kernel() -> str:
    """Start a kernel as JupyterLab would, and ask which Python runs it."""
    _load("ipykernel", work="the chapters")
    manager = _load("jupyter_client.manager", "jupyter-client", work="the chapters")
    messages: list[dict[str, Any]] = []
    with manager.run_kernel(kernel_name="python3", extra_arguments=["--log-level=ERROR"]) as client:
        client.execute_interactive(KERNEL_QUESTION, timeout=60, output_hook=messages.append)
    answer = "".join(message["content"].get("text", "") for message in messages).strip()
    if not answer:
        raise Lack("it starts, but cannot import emc2_lite", f'make it anew: "{_KERNEL_REMEDY}"')
    if os.path.realpath(answer) != os.path.realpath(sys.executable):
        raise Warn(f"python3 starts another Python, {answer}", f'if the course fails there: "{_KERNEL_REMEDY}"')
    return "starts, and finds emc2_lite"


def memory() -> str:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        raise Warn("this system does not say", "the course needs about 4 GB")
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    if size < 4:
        raise Warn(f"{size:.0f} GB", "close other programs: the course is made for 4 GB or more")
    return f"{size:.0f} GB"


def disk() -> str:
    free = shutil.disk_usage(".").free / 1e9
    if free < 2:
        raise Warn(f"{free:.0f} GB free here", "make room for data and results: 2 GB")
    return f"{free:.0f} GB free here"


def threads() -> str:
    value = os.environ.get("OMP_NUM_THREADS")
    if value is None:
        return "OMP_NUM_THREADS is not set; each chapter computes with one thread"
    if not value.isdigit() or not 0 < int(value) <= (os.cpu_count() or 1):
        raise Warn(f"OMP_NUM_THREADS is {value!r} on {os.cpu_count()} cores", "unset it, or set it to 1")
    return f"OMP_NUM_THREADS is {value}"


def browser() -> str:
    """Find a Chromium for the tests and the stored figures; a reader needs only the browser in use."""
    for candidate in (os.environ.get("BROWSER_PATH", ""), *BROWSERS):
        if found := shutil.which(candidate):
            return found
    raise Warn("no Chromium or Chrome", "only the browser tests and the making of the chapters need one")


LIBRARY = {
    "emc2-lite": package,
    "Python": python,
    "torch": torch,
    "torchvision": torchvision,
    "numba": compiler,
    "data": data,
}
COURSE = {"widgets": widgets, "JupyterLab": jupyterlab, "kernel": kernel}  # the library runs without these
CHECKS = LIBRARY | COURSE | {"memory": memory, "disk": disk, "threads": threads, "browser": browser}


def _load(module: str, package: str | None = None, *, work: str = "") -> ModuleType:
    """Import ``module`` of ``package``, or raise `Warn` if it is missing and only ``work`` needs it, else `Lack`."""
    package = package or module
    try:
        own, installed = requires("emc2-lite") or (), version(package)
    except PackageNotFoundError as missing:
        optional = work and missing.name == package
        remedy = f"needed for {work} alone: {INSTALL}" if optional else INSTALL
        raise (Warn if optional else Lack)(f"{missing.name} is not installed", remedy) from None
    bounds = (re.match(rf"{re.escape(package)}\s*>=\s*([\d.]+)", line) for line in own)
    least = next((bound[1] for bound in bounds if bound), "0")
    if _numbers(installed) < _numbers(least):
        raise Lack(f"{package} {installed} is older than {least}", INSTALL)
    try:
        return importlib.import_module(module)
    except Exception as failure:
        pair = "torch and torchvision must be installed together, from one place: remove both"
        remedy = f"{pair if package in ('torch', 'torchvision') else f'remove {package}'}, then {INSTALL}"
        raise Lack(f"{package} {installed} does not import: {_first_line(failure)}", remedy) from None


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", re.split(r"[^\d.]", release)[0])))


def _first_line(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}".splitlines()[0][:200]
