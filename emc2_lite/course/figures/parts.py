"""The parts of the figures: looks by name, curves, points, bands, bars, pictures and axes."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.course.style import (
    BLUE,
    COLOURS,
    DASHES,
    GOLD,
    GREY,
    HEIGHT,
    MARKERS,
    PAPER,
    VERMILION,
    show,
)
from emc2_lite.losses import METHODS

Row = Mapping[str, Any]  # of a record

TITLE, AXIS_TITLE = 42, 38  # characters of a line that fit in 332 pixels


class Look(NamedTuple):
    """Colour, dash of the line and symbol of the markers, in plotly's terms."""

    colour: str
    dash: str = "solid"
    marker: str = "circle"

    def hollow(self) -> "Look":
        """The same look with the outline of the marker."""
        return self._replace(marker=f"{self.marker.removesuffix('-open')}-open")


STYLES = [Look(*style) for style in zip(COLOURS, DASHES, MARKERS, strict=True)]
# Names with the same look in all chapters: the methods, without their settings, and kinds of features.
NAMED = {name: Look(method.colour, method.dash, method.marker) for name, method in METHODS.items() if "," not in name}
NAMED |= {
    "exact gradient": Look(GOLD, "longdash", "diamond-open"),
    "independent draws": Look(GREY, "longdash", "x"),
    "pixels": Look(GREY, "dot", "diamond"),
    "untrained": Look(VERMILION, "dash", "square"),
    "trained": Look(BLUE),
}


def look(name: str, number: int = 0) -> Look:
    """The look of the longest name in `NAMED` that `name` begins with, such as "SogCLR, gamma=0.5"; or style `number`.

    >>> look("SogCLR, gamma=0.5") == look("SogCLR")
    True
    """
    return NAMED.get(_known(name), STYLES[number % len(STYLES)])


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name of one figure, no look twice.

    A further setting of a method has the colour of the method with another dash and marker. A name outside `NAMED` has
    the style of its place in the figure, or another style where a method has that colour.

    >>> [look.colour for look in looks(["cache", "a name and its score", "SogCLR"]).values()]
    ['#009E73', '#0072B2', '#D55E00']
    """
    first = {name: look(name, number) for number, name in enumerate(dict.fromkeys(names))}
    chosen: dict[str, Look] = {}
    for name, own in sorted(first.items(), key=lambda item: (not _known(item[0]), "," in item[0])):
        known = bool(_known(name))
        fields = 2 if known else 1  # colour and dash must be new, or the colour alone
        used = {other[:fields] for other in chosen.values()}
        styles = [own, *(style._replace(colour=own.colour) if known else style for style in STYLES)]
        chosen[name] = next((style for style in styles if style[:fields] not in used), own)
    return {name: chosen[name] for name in first}


def _known(name: str) -> str:
    return max((known for known in NAMED if name.startswith(known)), key=len, default="")


class Figure(go.Figure):
    """A plotly figure that is drawn from parts; each method returns the figure.

    x and y are sequences or tensors of one dimension. A look may be the number of a style. Further options go to
    plotly's trace, such as `row`, `col`, `showlegend`.
    """

    def curve(self, x, y, name: str, look: Look | int, *, width: float = 2, size: float = 8, **options: Any) -> Self:
        """A line with markers of `size` pixels, or without markers for size 0."""
        colour, dash, marker = STYLES[look] if isinstance(look, int) else look
        style = {"line": {"color": colour, "dash": dash, "width": width}, "marker": {"symbol": marker, "size": size}}
        mode = "lines+markers" if size else "lines"
        return self.add_scatter(x=_list(x), y=_list(y), name=name, mode=mode, **style, **options)

    def curves(self, x, values: Mapping[str, Any], **options: Any) -> Self:
        """A curve for each name, all over the same x."""
        for name, look in looks(values).items():
            self.curve(x, values[name], name, look, **options)
        return self

    def means(self, x, draws: Tensor, name: str, look: Look | int, **options: Any) -> Self:
        """A curve of the means over the first dimension of `draws`, with bars from the lowest to the highest draw."""
        mean, error = spread(draws)
        return self.curve(x, mean, name, look, error_y=error, **options)

    def level(self, x, value: float, name: str, look: Look | int, **options: Any) -> Self:
        """A horizontal line from the first to the last x."""
        return self.curve([float(x[0]), float(x[-1])], [value, value], name, look, size=0, **options)

    def points(self, x, y, name: str, look: Look | int, *, size: float = 8, **options: Any) -> Self:
        """Markers of `size` pixels without a line."""
        colour, _, marker = STYLES[look] if isinstance(look, int) else look
        options = {"mode": "markers", "marker": {"symbol": marker, "size": size, "color": colour}} | options
        return self.add_scatter(x=_list(x), y=_list(y), name=name, **options)

    def band(self, x, low, high, name: str, **options: Any) -> Self:
        """The blue area between two curves."""
        edge = {"x": _list(x), "mode": "lines", "line": {"width": 0}, **options}
        self.add_scatter(y=_list(high), **edge | {"showlegend": False, "hoverinfo": "skip"})
        return self.add_scatter(y=_list(low), name=name, fill="tonexty", fillcolor="rgba(0, 114, 178, 0.3)", **edge)

    def bars(self, x, y, name: str, colour: str, pattern: str = "", **options: Any) -> Self:
        """Bars of one colour; a pattern, such as "/", distinguishes them from other bars without the colour."""
        marker = {"color": colour, "pattern": {"shape": pattern, "solidity": 0.3}}
        return self.add_bar(x=_list(x), y=_list(y), name=name, marker=marker, **options)

    def finish(self, title: str, x=None, y=None, *, alt: str, **layout: Any) -> Self:
        """Set the title, the axes (by title or by settings) and parts of plotly's layout; long titles get two lines.

        `alt` is the text that stands for the figure where it cannot be seen: what is drawn, and what one sees there,
        with the figure's own numbers.
        """
        for name, axis in (("xaxis", x), ("yaxis", y)):
            self.update_layout({name: {"title": axis} if isinstance(axis, str) else axis or {}})
        lines = _balanced(title)
        heading = {"text": "<br>".join(lines), "pad": {"t": 10 * (len(lines) - 1)}}  # plotly centres several lines
        size = {"height": self.layout.height or HEIGHT, "margin": {"t": 36 + 20 * len(lines)}}
        self.update_layout(title=heading, meta={"alt": alt}, **size).update_layout(**layout)
        for axis in (*self.select_xaxes(), *self.select_yaxes()):
            axis.title.text = axis.title.text and "<br>".join(textwrap.wrap(axis.title.text, AXIS_TITLE))
        self.for_each_annotation(lambda panel: panel.update(font_size=13), {"font.size": 16})  # titles of panels
        return self

    def _ipython_display_(self) -> None:
        show(self)


def _balanced(title: str) -> list[str]:
    """The title in as few lines of `TITLE` characters as it needs, of about the same length."""
    whole = title.replace(" = ", "\u00a0=\u00a0")  # no line ends beside an equals sign
    count = len(textwrap.wrap(whole, TITLE))
    lines = next(lines for width in range(1, TITLE + 1) if len(lines := textwrap.wrap(whole, width)) <= count)
    return [line.replace("\u00a0", " ") for line in lines]


def _list(values: Tensor | Iterable) -> list:
    return values.tolist() if isinstance(values, Tensor) else list(values)


def reach(low, middle, high) -> dict[str, Any]:
    """plotly's error bars from `low` to `high` around `middle`."""
    low, middle, high = (torch.as_tensor(values, dtype=torch.float64) for values in (low, middle, high))
    arms = {"array": (high - middle).tolist(), "arrayminus": (middle - low).tolist()}
    return {"type": "data", "symmetric": False, "thickness": 1.5, **arms}


def spread(draws: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Means over the first dimension of `draws`, and error bars from the lowest to the highest draw."""
    mean = draws.mean(dim=0)
    return mean, reach(draws.amin(dim=0), mean, draws.amax(dim=0))


def pictures(images: Tensor, x: float = 0, y: float = 0) -> go.Heatmap:
    """One trace with (rows, columns, 8, 8) images; the middle of row i and column j lies at (x + j, y + i)."""
    rows, columns, height, width = images.shape
    framed = F.pad(images, (0, 1, 0, 1), value=torch.nan)  # an empty line between two images
    sheet = framed.transpose(1, 2).reshape(rows * (height + 1), columns * (width + 1))
    z = [[None if value != value else round(value, 3) for value in line] for line in sheet.tolist()]
    xs = [x + j + (i - (width - 1) / 2) / (width + 1) for j in range(columns) for i in range(width + 1)]
    ys = [y + i + (k - (height - 1) / 2) / (height + 1) for i in range(rows) for k in range(height + 1)]
    return go.Heatmap(z=z, x=xs, y=ys, colorscale=PAPER, zmin=0, zmax=1, showscale=False, hoverinfo="skip")


def log(title: str | None = None, ticks: Sequence[float] | None = None, **options: Any) -> dict[str, Any]:
    """A logarithmic axis with the given ticks, or with a tick at each power of ten."""
    where = {"dtick": 1} if ticks is None else {"tickvals": list(ticks), "ticktext": [f"{tick:g}" for tick in ticks]}
    return {"title": title, "type": "log", **where, **options}


def from_zero(title: str) -> dict[str, Any]:
    """An axis that begins at 0."""
    return {"title": title, "rangemode": "tozero"}


def ticked(words: Sequence[str], **options: Any) -> dict[str, Any]:
    """An axis with a word at each of 0, 1, 2, ... and without lines."""
    ticks = {"tickvals": list(range(len(words))), "ticktext": list(words)}
    return {**ticks, "showgrid": False, "zeroline": False, **options}
