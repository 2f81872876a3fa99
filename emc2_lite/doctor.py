"""Look at this machine and say in plain words what the course and the library will find, and how to mend a lack.

Nothing heavy is imported before the check that needs it, so that the doctor also runs where an installation is broken.
"""

import importlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

INSTALL = 'run "make setup" in the repository, or "pip install -e .[course]" there'
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
LEAST_PYTHON = (3, 11)
LEAST_MEMORY = 4e9
LEAST_DISK = 2e9
KERNEL_SECONDS = 60
CHAPTERS = "the chapters"
KERNEL_QUESTION = "import sys, emc2_lite; print(sys.executable)"


class Finding(NamedTuple):
    """One line of the report; ``verdict`` is ok, warning or lack, and ``remedy`` says what to do about the last two."""

    subject: str
    verdict: str
    words: str
    remedy: str = ""


class Lack(Exception):
    """Something needed is missing or broken: what, and what to do about it."""


class Missing(Lack):
    """A package is not installed."""


class Warn(Exception):
    """Something is missing that not everybody needs, or is smaller than it should be."""


def examine() -> Iterator[Finding]:
    """One finding for each check, in the order of a reader's likely troubles."""
    for subject, check in CHECKS.items():
        try:
            yield Finding(subject, "ok", check())
        except Lack as lack:
            yield Finding(subject, "lack", *lack.args)
        except Warn as warning:
            yield Finding(subject, "warning", *warning.args)
        except Exception as failure:
            words = f"the check itself failed: {_first_line(failure)}"
            yield Finding(subject, "lack", words, INSTALL)


def python() -> str:
    if sys.version_info < LEAST_PYTHON:
        raise Lack(_dotted(sys.version_info[:3]), f"install Python {_dotted(LEAST_PYTHON)} or newer")
    return f"{_dotted(sys.version_info[:3])} at {sys.executable}"


def torch() -> str:
    torch = _load("torch")
    float((torch.ones(2, 2) @ torch.ones(2, 2)).sum())
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        device = "Apple GPU (MPS)"
    else:
        device = "CPU, which is enough for every chapter"
    return f"{torch.__version__}, {device}"


def torchvision() -> str:
    torch = _load("torch")
    vision = _load("torchvision")
    vision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    return f"{vision.__version__}, built for this torch"


def compiler() -> str:
    numba = _load("numba")
    if numba.njit(lambda x: x + 1)(1) != 2:
        raise Lack("numba compiles, but wrongly", INSTALL)
    return f"numba {numba.__version__} compiles"


def memory() -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        raise Warn("this system does not say", f"the course needs about {_gigabytes(LEAST_MEMORY)}")
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size < LEAST_MEMORY:
        raise Warn(_gigabytes(size), f"close other programs: the course is made for {_gigabytes(LEAST_MEMORY)} or more")
    return _gigabytes(size)


def disk() -> str:
    free = shutil.disk_usage(".").free
    if free < LEAST_DISK:
        raise Warn(f"{_gigabytes(free)} free here", f"make room for data and results: {_gigabytes(LEAST_DISK)}")
    return f"{_gigabytes(free)} free here"


def data() -> str:
    images = _load("sklearn.datasets", "scikit-learn").load_digits().images
    if images.shape != (1797, 8, 8):
        raise Lack(f"digits of shape {images.shape} instead of (1797, 8, 8)", INSTALL)
    return "1,797 digits of 8 x 8 pixels, shipped with scikit-learn"


def widgets() -> str:
    names = ("plotly", "anywidget", "ipywidgets")
    return ", ".join(f"{name} {_load_for('the figures of chapters and runs', name).__version__}" for name in names)


def jupyterlab() -> str:
    lab, runner = _load_for('"emc2-lite lab"', "jupyterlab"), _load_for('"emc2-lite course"', "papermill")
    return f"JupyterLab {lab.__version__}, papermill {runner.__version__}"


def kernel() -> str:
    """Starts a kernel as JupyterLab would, and asks it which Python it is."""
    _load_for(CHAPTERS, "ipykernel")
    heard = []
    manager = _load_for(CHAPTERS, "jupyter_client.manager", "jupyter-client")
    with manager.run_kernel(kernel_name="python3", extra_arguments=["--log-level=ERROR"]) as client:
        client.execute_interactive(KERNEL_QUESTION, timeout=KERNEL_SECONDS, output_hook=heard.append)
    answer = "".join(message["content"].get("text", "") for message in heard).strip()
    if not answer:
        raise Lack("it starts, but cannot import emc2_lite", f'make it anew: "{_KERNEL_REMEDY}"')
    if os.path.realpath(answer) != os.path.realpath(sys.executable):
        raise Warn(f"python3 starts another Python, {answer}", f'if the course fails there: "{_KERNEL_REMEDY}"')
    return "starts, and finds emc2_lite"


def browser() -> str:
    """The tests and the stored figures need a Chromium; a reader needs none but the one in use."""
    candidates = (os.environ.get("BROWSER_PATH", ""), *BROWSERS, *MAC_BROWSERS)
    found = next(filter(None, map(shutil.which, candidates)), None)
    if not found:
        raise Warn("no Chromium or Chrome", "only the browser tests and the making of the chapters need one")
    return found


def threads() -> str:
    value = os.environ.get("OMP_NUM_THREADS")
    if value is None:
        return "OMP_NUM_THREADS is not set; each chapter computes with one thread"
    if not value.isdigit() or not 0 < int(value) <= (os.cpu_count() or 1):
        raise Warn(f"OMP_NUM_THREADS is {value!r} on {os.cpu_count()} cores", "unset it, or set it to 1")
    return f"OMP_NUM_THREADS is {value}"


CHECKS: dict[str, Callable[[], str]] = {
    "Python": python,
    "torch": torch,
    "torchvision": torchvision,
    "numba": compiler,
    "data": data,
    "widgets": widgets,
    "JupyterLab": jupyterlab,
    "kernel": kernel,
    "memory": memory,
    "disk": disk,
    "threads": threads,
    "browser": browser,
}
COURSE = ("widgets", "JupyterLab", "kernel")  # what the course needs and the library does not
_KERNEL_REMEDY = "python -m ipykernel install --sys-prefix"


def _load(module: str, package: str | None = None):
    """Import ``module``; a ``Lack`` if it is missing, older than this project asks for, or broken."""
    package = package or module
    least = _least(package)
    try:
        installed = version(package)
    except PackageNotFoundError:
        raise Missing(f"{package} is not installed", INSTALL) from None
    if _numbers(installed) < _numbers(least):
        raise Lack(f"{package} {installed} is older than {least}", INSTALL)
    try:
        return importlib.import_module(module)
    except Exception as failure:
        raise Lack(f"{package} {installed} does not import: {_first_line(failure)}", _reinstall(package)) from None


def _load_for(work: str, module: str, package: str | None = None):
    """Import ``module``, which only `work` needs: a ``Warn`` if it is missing, a ``Lack`` if it is old or broken."""
    try:
        return _load(module, package)
    except Missing as missing:
        words, remedy = missing.args
        raise Warn(words, f"needed for {work} alone: {remedy}") from None


def _reinstall(package: str) -> str:
    if package in ("torch", "torchvision"):
        return f"torch and torchvision must be installed together, from one place: remove both, then {INSTALL}"
    return f"remove {package}, then {INSTALL}"


def _least(package: str) -> str:
    """The lower bound that this project's own metadata gives for ``package``."""
    try:
        own = requires("emc2-lite") or ()
    except PackageNotFoundError:
        raise Lack("emc2-lite itself is not installed", INSTALL) from None
    pattern = re.compile(rf"{re.escape(package)}\s*>=\s*([\d.]+)")
    return next((found[1] for found in map(pattern.match, own) if found), "0")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[\d.]*", text)[0].split(".") if part)


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.0f} GB"


def _first_line(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}".splitlines()[0][:200]
