"""Chapter 07's recipe for Colab, followed word by word on an imitation: two machines, and a death between them.

    python tests/colab/check.py [--python python3.13] [--folder build/colab]

A machine is a new environment of Colab's published versions (August 2026), as far as the registry has them, an empty
folder in the place of /content, and a stub of google.colab whose Drive is a folder that outlives the machine. The
recipe's cells come from the chapter; the digits take the place of STL-10, which is too large for a check. The first
machine's kernel is killed by SIGKILL after a checkpoint; the second follows the same cells, and its weights are
compared with those of a run without a death. The first cell of chapter 00 is tried in three states.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from jupyter_client import KernelManager

ROOT = Path(__file__).parents[2]
COLAB = {
    "torch": "2.11", "torchvision": "0.26", "numpy": "2.1", "ipywidgets": "7.7.1", "plotly": "5.24.1",
    "anywidget": "0.9.21", "ipython": "7.34", "ipykernel": "6",
}  # fmt: skip
STUB = """
from pathlib import Path

def mount(path):
    Path(path).mkdir(parents=True, exist_ok=True)
    drive = Path(path) / "MyDrive"
    drive.exists() or drive.symlink_to({drive!r})

def flush_and_unmount():
    pass
"""
# Makes the recipe small: seconds of training, a checkpoint after each step, no download.
SMALL = {
    "train stl10": "train digits -p training.epochs 12 -p training.evaluate_epochs 0",
    "emc2-lite fetch stl10 --keep /content/drive/MyDrive/emc2": "true",
    "checkpoint_seconds 1800": "checkpoint_seconds 0",
}


def uv(*arguments: object) -> None:
    program = Path(sys.executable).with_name("uv")
    subprocess.run([program, "--quiet", *map(str, arguments)], check=True)


class Machine:
    """A new environment with Colab's packages, and a kernel in an empty folder; `drive` outlives it."""

    def __init__(self, folder: Path, drive: Path, python: str):
        self.folder, self.content, self.drive = folder, folder / "content", drive
        shutil.rmtree(folder, ignore_errors=True)
        self.content.mkdir(parents=True)
        uv("venv", "--seed", "--python", python, folder / "python")
        self.python = folder / "python" / "bin" / "python"
        wanted = [
            f"{name}=={number}.*" if number.count(".") < 2 else f"{name}=={number}" for name, number in COLAB.items()
        ]
        uv("pip", "install", "--python", self.python, *wanted, "ipython-genutils", "setuptools")
        (site,) = (folder / "python" / "lib").glob("python*/site-packages")
        (site / "google" / "colab").mkdir(parents=True)
        (site / "google" / "colab" / "__init__.py").touch()
        (site / "google" / "colab" / "drive.py").write_text(STUB.format(drive=str(drive)))
        self.start()

    def start(self) -> None:
        """A new kernel, as after "restart the runtime"."""
        self.kernel = KernelManager()
        self.kernel.kernel_spec.argv[0] = str(self.python)
        path = f"{self.python.parent}:/usr/bin:/bin"
        self.kernel.start_kernel(cwd=self.content, env={"PATH": path, "HOME": str(self.folder), "OMP_NUM_THREADS": "1"})
        self.client = self.kernel.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def run(self, cell: str, *, until: Path | None = None) -> str:
        """What the cell prints, and its error; with `until`, kill the kernel as soon as that file is there."""
        printed: list[str] = []

        def hear(message: dict) -> None:
            content = message["content"]
            printed.append(content.get("text", "") or "\n".join(content.get("traceback", [])))

        if until is None:
            self.client.execute_interactive(cell.replace("/content", str(self.content)), timeout=1200, output_hook=hear)
            return "".join(printed)
        self.client.execute(cell.replace("/content", str(self.content)))
        deadline = time.monotonic() + 300
        while not until.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{until} did not appear within five minutes of: {cell}")
            time.sleep(0.05)
        self.lose()
        return ""

    def lose(self) -> None:
        """The machine is taken away: every process dies at once, and its disk is gone."""
        self.client.stop_channels()
        self.kernel.shutdown_kernel(now=True)
        subprocess.run(["pkill", "-KILL", "-f", str(self.python)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def recipe() -> list[str]:
    """The cells that chapter 07 says to run on every new machine, made small."""
    chapter = nbformat.read(ROOT / "chapters" / "07_the_training_run.ipynb", as_version=4)
    (section,) = (cell.source for cell in chapter.cells if "On every new machine" in cell.source)
    cells = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:3]
    for words, instead in SMALL.items():
        assert any(words in cell for cell in cells), f"the recipe no longer says {words}"
        cells = [cell.replace(words, instead) for cell in cells]
    return cells


def first_cell(name: str) -> str:
    chapter = nbformat.read(ROOT / "chapters" / name, as_version=4)
    return next(cell.source for cell in chapter.cells if cell.cell_type == "code")


def report(words: str, passed: bool, printed: str = "") -> bool:
    print(f"{'passed' if passed else 'FAILED'}: {words}", flush=True)
    if not passed:
        print(printed[-3000:])
    return passed


def the_first_cell(machine: Machine, wheel: Path) -> list[bool]:
    """Without a wheel one sentence; with one it installs, and says what to do about a plotly imported before."""
    cell, passed = first_cell("00_start_here.ipynb"), []
    printed = machine.run(cell)
    passed.append(report("no wheel beside the notebook: one sentence", "upload the one that" in printed, printed))
    shutil.copy(wheel, machine.content)
    printed = machine.run(f"import plotly\n{cell}")
    asked = printed.rstrip().endswith("restart the runtime (the kernel) and run this cell again")
    passed.append(report("plotly 5 was imported: the error ends with what to do", asked, printed))
    machine.client.stop_channels()
    machine.kernel.shutdown_kernel(now=True)
    machine.start()
    printed = machine.run(cell)
    passed.append(
        report(
            "after the restart the cell works",
            re.search(r"emc2-lite [\d.]+, torch 2\.11", printed) is not None,
            printed,
        )
    )
    printed = machine.run("import sys, torch\nprint('kept', torch.__version__)")
    passed.append(report("torch was not replaced", "kept 2.11" in printed, printed))
    return passed


def two_legs(folder: Path, python: str, wheel: Path) -> list[bool]:
    """The recipe on a machine that dies, and on the next one; and on a machine that lives."""
    cells, passed, weights = recipe(), [], {}
    for name, deaths in (("broken", 1), ("whole", 0)):
        drive = folder / f"drive-{name}"
        shutil.rmtree(drive, ignore_errors=True)
        (drive / "emc2").mkdir(parents=True)
        shutil.copy(wheel, drive / "emc2")
        for leg in range(deaths + 1):
            machine = Machine(folder / f"machine-{name}-{leg}", drive, python)
            last = drive / "emc2" / "stl10" / "last.pt"
            for cell in cells[:2]:
                printed = machine.run(cell)
            passed.append(report(f"{name}, machine {leg + 1}: the dry run forecasts", "time on" in printed, printed))
            if leg < deaths:
                machine.run(cells[2], until=last)
                alive = (drive / "emc2" / "stl10" / "record.json").exists()
                passed.append(report(f"{name}: the machine died in the middle of the run", not alive))
                continue
            printed = machine.run(cells[2])
            ended = (drive / "emc2" / "stl10" / "record.json").exists()
            passed.append(report(f"{name}, machine {leg + 1}: the run ends", ended, printed))
            show = "import torch; print(sum(float(t.double().abs().sum()) for t in torch.load("
            weights[name] = machine.run(f"{show}'/content/drive/MyDrive/emc2/stl10/last.pt')['encoder'].values()))")
            printed = machine.run("!emc2-lite evaluate /content/drive/MyDrive/emc2/stl10")
            passed.append(report(f"{name}: the run can be evaluated", "linear probe, tuned" in printed, printed))
            machine.lose()
    same = weights["broken"] == weights["whole"] and weights["whole"].strip() != ""
    return [*passed, report("the weights at the end are those of the run without a death", same, str(weights))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.13", help="of the imitation; Colab has 3.13")
    parser.add_argument("--folder", default="build/colab", type=Path)
    given = parser.parse_args()
    folder = given.folder.resolve()
    (wheel,) = (ROOT / "build" / "wheel").glob("*.whl")
    machine = Machine(folder / "machine", folder / "drive", given.python)
    passed = the_first_cell(machine, wheel)
    machine.lose()
    passed += two_legs(folder, given.python, wheel)
    return int(not all(passed))


if __name__ == "__main__":
    sys.exit(main())
