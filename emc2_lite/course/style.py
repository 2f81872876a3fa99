"""One look for every figure: dark ink on a white card, the same on paper and on a dark theme."""

import base64
import os
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
import torch
from IPython.display import display
from threadpoolctl import threadpool_limits

import emc2_lite
from emc2_lite import doctor

# A colour of text has at most 4.35 : 1 on both white and a dark theme, less than a reader needs: so the card is white.
CARD = "#FFFFFF"
INK = "#333333"
GRID = "rgba(51, 51, 51, 0.16)"
CLEAR = "rgba(0, 0, 0, 0)"

# Okabe and Ito's colours as far as they reach 3 : 1 on the card, then grey and a darkened yellow.
# The first four stay apart under every common colour blindness; pair the last two with DASHES or MARKERS.
BLUE, VERMILION, GREEN, PURPLE, GREY, GOLD = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#797979", "#B38600"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, GREY, GOLD)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross")

PAPER = ((0.0, "#F2F2F2"), (1.0, "#1A1A1A"))  # for pictures: ink on light grey paper

WIDTH, HEIGHT = 668, 420  # of a stored picture; on a page the figure is as wide as its place
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["sendChartToCloud"]}

OUTPUT = "EMC2_COURSE_OUTPUT"


def template() -> go.layout.Template:
    """The plotly template ``emc2``: dark ink on a white card, the colours above."""
    axis = {"gridcolor": GRID, "linecolor": INK, "zerolinecolor": GRID, "automargin": True}
    axis |= {"title": {"standoff": 8}, "ticklabelstandoff": 4}
    slider = {"bgcolor": GRID, "bordercolor": INK, "activebgcolor": BLUE, "tickcolor": INK}
    layout = {"autosize": True, "height": HEIGHT, "margin": {"l": 60, "r": 16, "t": 60, "b": 50}}
    below = {"orientation": "h", "yref": "container", "y": 0.01, "yanchor": "bottom", "font": {"size": 13}}
    layout |= {"paper_bgcolor": CARD, "plot_bgcolor": CARD, "legend": below | {"bgcolor": CLEAR}, "colorway": COLOURS}
    title = {"font": {"size": 15}, "x": 0.02, "yref": "container", "y": 0.98, "yanchor": "top"}
    layout |= {"font": {"color": INK, "size": 13}, "title": title}
    layout |= {"xaxis": axis, "yaxis": axis, "sliderdefaults": {**slider, "font": {"color": INK, "size": 13}}}
    layout |= {"hoverlabel": {"bgcolor": "#ffffff", "font": {"color": "#111111"}}}
    layout |= {"modebar": {"bgcolor": CLEAR, "color": INK, "activecolor": BLUE}}
    data = {"heatmap": [{"colorscale": "Cividis"}], "bar": [{"marker": {"line": {"width": 0}}}]}
    return go.layout.Template(layout=layout, data=data)


def static() -> bool:
    """Whether figures are stored in the notebook (``EMC2_COURSE_OUTPUT=static``) or live.

    Raises: ValueError: on another value than "live" and "static".
    """
    value = os.environ.get(OUTPUT, "live")
    if value not in ("live", "static"):
        raise ValueError(f"{OUTPUT} is {value!r}; it must be 'live' or 'static'")
    return value == "static"


def renderer() -> str:
    """The name of the plotly renderer: Colab's own on Colab, else the notebook type."""
    return "colab" if "google.colab" in sys.modules else "plotly_mimetype"


def description(figure: go.Figure) -> str:
    """The text that stands for the figure where it cannot be seen; empty where its maker gave none."""
    return (figure.layout.meta or {}).get("alt", "")


def show(figure: go.Figure, picture: go.Figure | None = None, beside: dict[str, Any] | None = None) -> None:
    """Display a figure: live with plotly's renderer, stored in plotly's own form and as a PNG, both with a description.

    ``picture`` is drawn in the PNG instead, where the figure has a slider that a PNG cannot move. ``beside`` are
    further stored forms by MIME type, data for the book.
    """
    if not static():
        go.Figure.show(figure)
        return
    drawn = go.Figure(picture or figure).update_layout(width=WIDTH)
    bundle = pio.renderers["plotly_mimetype"].to_mimebundle(figure.to_dict())
    bundle["image/png"] = base64.b64encode(drawn.to_image("png", scale=1)).decode()
    alt = {"alt": description(figure)}
    display(bundle | {"text/plain": alt["alt"]} | (beside or {}), metadata=dict.fromkeys(bundle, alt), raw=True)


def check_packages() -> None:
    """Raise RuntimeError on a package that is too old, or that was imported before another version was installed."""
    for name in ("plotly", "anywidget", "ipywidgets"):
        try:
            loaded, installed = sys.modules[name].__version__, version(name)
        except ImportError:  # plotly 5 looks for its number in a file, which the newer version has replaced
            loaded, installed = "of another version", version(name)
        if loaded != installed:
            raise RuntimeError(
                f"{name} {loaded} was imported before {installed} was installed: "
                "restart the runtime (the kernel) and run this cell again"
            )
    try:
        version("emc2-lite")
        doctor.widgets()
    except PackageNotFoundError:  # the source is on the path without an installation, and no bounds are known
        return
    except doctor.Lack as lack:
        raise RuntimeError(f"{': '.join(lack.args)}; then restart the runtime (the kernel)") from None


def start() -> None:
    """Prepare a chapter: one computing thread, the figure template, the renderer; print the versions in one line.

    Raises: RuntimeError: on a package of the figures that is too old, or that a restart of the kernel must load anew.
    """
    check_packages()
    torch.set_num_threads(1)  # one thread is faster than many on the small arrays of the chapters
    threadpool_limits(1)
    pio.templates["emc2"] = template()
    pio.templates.default = "emc2"
    for name in ("plotly_mimetype", "colab"):
        pio.renderers[name].config = CONFIG
    if static():
        import kaleido

        kaleido.start_sync_server(silence_warnings=True)
        warnings.filterwarnings("ignore", "The kopts argument is ignored")  # plotly always passes it
    pio.renderers.default = renderer()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(f"emc2-lite {emc2_lite.__version__}, torch {version('torch')}, {device}")
