"""A real JupyterLab on this machine, driven through Chromium: run a chapter, move its sliders, photograph it.

``python tests/browser.py chapters/05_emc2.ipynb --out pictures [--dark] [--run]`` saves the chapter as JupyterLab
shows it, page by page: as it is stored, or after running all its cells.
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Locator, Page, Request, sync_playwright
from playwright.sync_api import TimeoutError as WaitedTooLong

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH, PAGE_HEIGHT = 1100, 1800

CURRENT = "window.jupyterapp?.shell.currentWidget"
READY = f"{CURRENT}?.sessionContext?.session?.kernel?.status === 'idle'"
# Not awaited by evaluate, which would wait without end.
RUN_ALL = """() => { window.emc2Ran = false;
    window.jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.emc2Ran = true; }); }"""
RAN = f"window.emc2Ran && {READY}"
ERRORS = f"""() => {CURRENT}.content.model.sharedModel.toJSON().cells.flatMap((cell, i) =>
    (cell.outputs ?? []).filter(output => output.output_type === 'error')
        .map(error => `cell ${{i + 1}}: ${{error.ename}}: ${{error.evalue}}`))"""
PRINTED = f"""() => {CURRENT}.content.model.sharedModel.toJSON().cells.flatMap(cell => (cell.outputs ?? [])
    .filter(output => output.output_type === 'stream').map(output => [output.text].flat().join('') + '\\n'))"""
UNRUN = f"""() => {CURRENT}.content.model.sharedModel.toJSON().cells.filter(cell =>
    cell.cell_type === 'code' && String(cell.source).trim() && cell.execution_count === null).length"""
BLANK = """() => [...document.querySelectorAll('.jp-RenderedPlotly, .widget-vbox .js-plotly-plot')]
    .filter(figure => figure.getBoundingClientRect().height < 100).length"""
PLACE = """box => { const inputs = [...box.querySelectorAll('input')];
    return inputs[0].type === 'range' ? Number(inputs[0].value) : inputs.findIndex(input => input.checked); }"""
LAST = """box => { const inputs = [...box.querySelectorAll('input')];
    return inputs[0].type === 'range' ? Number(inputs[0].max) : inputs.length - 1; }"""
PICTURE = "box => [...box.querySelectorAll('.main-svg')].map(svg => svg.innerHTML).join('')"


def find_chromium() -> str | None:
    """The path of an installed Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


class JupyterLab:
    """A JupyterLab server with its own settings in a temporary folder, and one browser page that looks at it."""

    def __enter__(self) -> "JupyterLab":
        self._folder = tempfile.TemporaryDirectory(prefix="emc2-jupyterlab-")
        self.home = Path(self._folder.name)
        self.outside: list[str] = []
        self._token = secrets.token_hex(16)
        self._server = self._start_server()
        try:
            self._wait_for_server()
            self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        except BaseException:
            self._stop_server()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._browser.close()
        self._playwright.stop()
        self._stop_server()

    def _stop_server(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
        self._folder.cleanup()

    def _start_server(self) -> subprocess.Popen:
        for name, settings in SETTINGS.items():
            path = self.home / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))
        (self.home / "notebooks").mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": port,
            "ServerApp.port_retries": 0,
            "ServerApp.open_browser": False,
            "ServerApp.allow_root": True,
            "ServerApp.root_dir": self.home / "notebooks",
            "IdentityProvider.token": self._token,
            "LabApp.expose_app_in_browser": True,
            "LabApp.extension_manager": "readonly",
        }
        places = {name: str(self.home / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
        places |= {f"JUPYTERLAB_{kind.upper()}_DIR": str(self.home / kind) for kind in ("settings", "workspaces")}
        environment = {name: value for name, value in os.environ.items() if name != "EMC2_COURSE_OUTPUT"}
        with (self.home / "server.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
                env=environment | places,
                stdout=log,
                stderr=log,
            )

    def _wait_for_server(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._server.poll() is None:
            try:
                urllib.request.urlopen(f"{self.address}/api?token={self._token}", timeout=5).close()
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not start:\n{(self.home / 'server.log').read_text()[-2000:]}")

    def open(self, notebook: Path, *, dark: bool = False) -> Page:
        """Open a copy of ``notebook`` in a page of its own and wait for its kernel; empties ``outside``."""
        shutil.copy(notebook, self.home / "notebooks")
        self.outside = []
        page = self._browser.new_page(viewport={"width": WIDTH, "height": 1000})
        page.context.on("request", self._note_outside)
        page.goto(f"{self.address}/doc/tree/{notebook.name}?token={self._token}&reset")
        page.wait_for_function(READY, timeout=60_000)
        if dark:
            change = "() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
            page.evaluate(change)
            page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
        return page

    def _note_outside(self, request: Request) -> None:
        if not request.url.startswith((self.address, self.address.replace("http", "ws"), "data:", "blob:")):
            self.outside.append(request.url)

    def close(self, page: Page) -> None:
        """Shut the page's kernel down and close it."""
        page.evaluate(f"() => {CURRENT}.sessionContext.shutdown()")
        page.context.close()


def run_all(page: Page) -> None:
    """Run every cell of the open notebook and wait until the last one and its widgets are there."""
    page.evaluate(RUN_ALL)
    try:
        page.wait_for_function(RAN, timeout=300_000)
    except WaitedTooLong:
        status = page.evaluate(f"() => {CURRENT}.sessionContext.session?.kernel?.status ?? 'gone'")
        seen = " ".join(page.locator(".jp-Dialog").all_inner_texts())
        words = (
            f"the cells did not end within 300 s: {page.evaluate(UNRUN)} have not run, the kernel is {status} {seen}"
        )
        raise RuntimeError(words) from None
    boxes = page.locator(".jp-OutputArea .widget-vbox:has(.emc2-slider)")
    for box in boxes.all():
        box.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=20_000)


def problems(page: Page) -> list[str]:
    """What a reader would see go wrong in an executed notebook, one sentence each; sliders are moved."""
    found = [*page.evaluate(ERRORS)]
    unrun = page.evaluate(UNRUN)
    if unrun:
        found.append(f"{unrun} cells did not run")
    blank = page.evaluate(BLANK)
    if blank:
        found.append(f"{blank} figures are blank")
    for text in ("Error displaying widget", "Error creating widget", "Loading widget", "Javascript Error"):
        if page.locator(".jp-OutputArea-output", has_text=text).count():
            found.append(f"the page shows {text!r}")
    for slider in page.locator(".emc2-slider").all():
        found.extend(_slider_problems(page, slider))
    return found


def exercise_lines(page: Page, names: list[str]) -> list[str]:
    """The lines that the checks of the exercises ``names`` printed in the executed notebook."""
    printed = "".join(page.evaluate(PRINTED)).splitlines()
    return [line for line in printed if line.partition(": ")[0] in names]


def _slider_problems(page: Page, slider: Locator) -> list[str]:
    """Move one control by keyboard: a step must change the picture, and neither end may give a message."""
    label = slider.locator(".emc2-label").inner_text()
    box = slider.locator("xpath=ancestor::*[contains(@class, 'widget-vbox')][1]")
    last = slider.evaluate(LAST)
    slider.locator("input:checked, input[type=range]").first.focus()
    for key in ("ArrowLeft" if slider.evaluate(PLACE) == last else "ArrowRight", "Home", "End"):
        before, place = box.evaluate(PICTURE), slider.evaluate(PLACE)
        page.keyboard.press(key)
        changed = _becomes_true(lambda: box.evaluate(PICTURE) != before)  # noqa: B023
        message = box.locator(".emc2-message").inner_text().strip()
        moved = slider.evaluate(PLACE) != place
        if message:
            return [f"slider {label!r}, key {key}: {message}"]
        if not changed and (moved or key.startswith("Arrow")):
            return [f"slider {label!r}, key {key}: the picture did not change"]
    return []


def _becomes_true(condition, seconds: float = 3.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.03)
    return False


def photograph(page: Page, folder: Path, name: str) -> list[Path]:
    """Save the whole open notebook as PNG files ``name-1.png``, ``name-2.png``, ... of one screen each."""
    folder.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(1000)
    height = page.evaluate("() => document.querySelector('.jp-Notebook .jp-WindowedPanel-viewport').scrollHeight")
    page.set_viewport_size({"width": WIDTH, "height": min(int(height) + 200, 16_000)})
    page.evaluate("() => { document.querySelector('.jp-Notebook .jp-WindowedPanel-outer').scrollTop = 0; }")
    page.wait_for_timeout(1000)
    saved = []
    for number, top in enumerate(range(0, page.viewport_size["height"], PAGE_HEIGHT), start=1):
        saved.append(folder / f"{name}-{number}.png")
        rest = min(PAGE_HEIGHT, page.viewport_size["height"] - top)
        page.screenshot(path=saved[-1], clip={"x": 0, "y": top, "width": WIDTH, "height": rest})
    return saved


def main() -> None:
    parser = argparse.ArgumentParser(description="Photograph chapters as JupyterLab shows them.")
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNG files")
    parser.add_argument("--dark", action="store_true", help="JupyterLab's dark theme")
    parser.add_argument("--run", action="store_true", help="run all cells first, instead of showing what is stored")
    options = parser.parse_args()
    with JupyterLab() as lab:
        for notebook in options.notebooks:
            page = lab.open(notebook, dark=options.dark)
            if options.run:
                run_all(page)
                print(*problems(page), sep="\n")
            theme, state = "dark" if options.dark else "light", "run" if options.run else "stored"
            print(*photograph(page, options.out, f"{notebook.stem}-{theme}-{state}"), sep="\n")
            lab.close(page)


if __name__ == "__main__":
    main()
