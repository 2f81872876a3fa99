"""The look of the figures: readable on their card, apart for colour-blind readers, no upload button."""

import importlib
import itertools
import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
import torch

from emc2_lite import course, doctor
from emc2_lite.course import style

# Machado, Oliveira and Fernandes 2009, severity 1, in linear RGB.
COLOUR_BLINDNESS = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2: the ratio of the relative luminances, each raised by 0.05."""
    dark, light = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ rgb.clip(0, 1) / to_xyz.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.fixture
def started(monkeypatch):
    before = pio.templates.default, pio.renderers.default, torch.get_num_threads()
    monkeypatch.delenv(style.OUTPUT, raising=False)
    course.start()
    yield
    pio.templates.default, pio.renderers.default = before[:2]
    torch.set_num_threads(before[2])


def test_contrast_formula():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_colours_reach_three_to_one_on_the_card():
    assert all(contrast(colour, style.CARD) >= 3 for colour in style.COLOURS)


def test_text_is_readable_in_every_theme():
    """The card is opaque, so that a theme changes nothing."""
    assert contrast(style.INK, style.CARD) >= 4.5 and len(style.CARD) == len("#ffffff")
    layout = style.template().layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == style.CARD and layout.font.color == style.INK


@pytest.mark.parametrize("matrix", COLOUR_BLINDNESS.values(), ids=COLOUR_BLINDNESS)
def test_first_four_colours_stay_apart_for_colour_blind_readers(matrix):
    seen = [lab(np.array(matrix) @ linear(colour)) for colour in style.COLOURS[:4]]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12


def test_every_colour_has_its_dash_and_marker():
    assert len(set(style.DASHES)) == len(set(style.MARKERS)) == len(style.COLOURS)


def test_start_selects_the_look_and_one_thread(started, capsys):
    assert torch.get_num_threads() == 1
    layout = go.Figure().layout.template.layout
    assert (layout.width, layout.height, layout.paper_bgcolor) == (None, 420, style.CARD)
    assert layout.colorway == style.COLOURS


@pytest.mark.parametrize("name", ["plotly", "anywidget", "ipywidgets"])
def test_start_asks_for_a_restart_where_an_older_package_is_in_memory(monkeypatch, capsys, name):
    monkeypatch.setattr(importlib.import_module(name), "__version__", "5.24.1")
    with pytest.raises(
        RuntimeError, match=rf"{name} 5\.24\.1 was imported before .* was installed: restart the runtime"
    ):
        course.start()
    assert capsys.readouterr().out == ""


class Lazy(ModuleType):
    def __getattr__(self, name):
        raise ModuleNotFoundError("No module named 'plotly.version'")


def test_a_package_whose_files_were_replaced_after_its_import_asks_for_a_restart(monkeypatch):
    """plotly 5 reads its version from a file when it is asked; seen in `make colab-check`."""
    monkeypatch.setitem(sys.modules, "plotly", Lazy("plotly"))
    with pytest.raises(RuntimeError, match=r"plotly of another version was imported before .*: restart the runtime"):
        style.check_packages()


def test_start_refuses_a_package_that_is_too_old(monkeypatch):
    old = {"plotly": "5.24.1"}
    monkeypatch.setattr(importlib.import_module("plotly"), "__version__", old["plotly"])
    for module in (style, doctor):
        monkeypatch.setattr(module, "version", lambda name: old.get(name) or version(name))
    with pytest.raises(RuntimeError, match=r"^plotly 5\.24\.1 is older than 6.*; then restart the runtime"):
        course.start()


def test_start_works_where_the_source_is_on_the_path_without_an_installation(monkeypatch, started, capsys):
    def unknown(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(style, "version", lambda name: unknown(name) if name == "emc2-lite" else version(name))
    course.start()
    assert "emc2-lite" in capsys.readouterr().out


def test_start_prints_one_line(started, capsys):
    course.start()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("emc2-lite ")


def test_figures_offer_no_upload(started):
    bundle = pio.renderers["plotly_mimetype"].to_mimebundle(go.Figure().to_dict())
    config = bundle["application/vnd.plotly.v1+json"]["config"]
    assert "sendChartToCloud" in config["modeBarButtonsToRemove"] and not config["displaylogo"]


def test_renderer_follows_the_place(monkeypatch):
    assert style.renderer() == "plotly_mimetype"
    monkeypatch.setitem(__import__("sys").modules, "google.colab", object())
    assert style.renderer() == "colab"


def test_a_stored_figure_has_both_forms_and_its_description(started, monkeypatch):
    shown = []
    monkeypatch.setenv(style.OUTPUT, "static")
    monkeypatch.setattr(style, "display", lambda bundle, **options: shown.append((bundle, options["metadata"])))
    monkeypatch.setattr(go.Figure, "to_image", lambda figure, form, **_: str(figure.layout.width).encode())
    style.show(go.Figure().update_layout(meta={"alt": "A curve"}))
    ((bundle, metadata),) = shown
    assert bundle["image/png"] == "NjY4" and bundle["text/plain"] == "A curve"  # 668 pixels wide, in base64
    assert "width" not in bundle["application/vnd.plotly.v1+json"]["layout"]
    assert metadata == {kind: {"alt": "A curve"} for kind in ("application/vnd.plotly.v1+json", "image/png")}


def test_unknown_output_is_refused(monkeypatch):
    monkeypatch.setenv(style.OUTPUT, "png")
    with pytest.raises(ValueError, match="'png'; it must be 'live' or 'static'"):
        style.static()
