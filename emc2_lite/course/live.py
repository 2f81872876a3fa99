"""Figures with controls: live where a kernel answers, one stored figure with plotly's own slider where none does."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
import traitlets
from IPython.display import display

from emc2_lite.course.style import CONFIG, HEIGHT, VERMILION, description, show, static

FOLDER = Path(__file__).parent / "widgets"
ROOM = 105  # pixels for the slider of a stored figure
# The MIME type of `states`: JSON as text, for a notebook file gives each number of an object a line of its own.
STATES = "application/vnd.emc2.states"
LARGEST = 300_000  # characters of `states`


@dataclass(frozen=True)
class Slider:
    """A control with a short list of values: buttons for up to four of them, a slider for more.

    ``start`` is the value shown first (by default the first of ``values``); ``unit``, a plural, is written behind the
    value.
    Raises ValueError when ``values`` is empty or holds a value twice, or when ``start`` is not among them.

    >>> Slider("temperature", [0.1, 0.5], start=0.5, unit="nats").text(0.5)
    '0.5 nats'
    """

    label: str
    values: Sequence[Any]
    start: Any = None
    unit: str = ""

    def __post_init__(self):
        values = tuple(value.item() if isinstance(value, np.generic) else value for value in self.values)
        object.__setattr__(self, "values", values)
        if not values or len(set(values)) < len(values):
            raise ValueError(f"slider {self.label!r} needs at least one value and none twice, got {list(values)}")
        if self.start is None:
            object.__setattr__(self, "start", values[0])
        elif self.start not in values:
            raise ValueError(f"slider {self.label!r} starts at {self.start!r}, which is not among {list(values)}")

    @property
    def start_place(self) -> int:
        """The place of the start among the values."""
        return self.values.index(self.start)

    def text(self, value: Any) -> str:
        """The value as a reader sees it, with its unit."""
        one = value == 1 and len(self.unit) > 1
        return f"{self.number(value)} {self.unit.removesuffix('s') if one else self.unit}".rstrip()

    def number(self, value: Any) -> str:
        """The value as a reader sees it, without its unit."""
        return f"{value:g}" if isinstance(value, float) else str(value)


class Control(anywidget.AnyWidget):
    """A slider or buttons on the page, and the text that describes the figure below to a screen reader."""

    _esm = FOLDER / "control.js"
    _css = FOLDER / "control.css"
    label = traitlets.Unicode().tag(sync=True)
    texts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    index = traitlets.Int().tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)


def explore(figure: Callable[..., go.Figure], **controls: Slider) -> None:
    """Display ``figure(**values)`` with one control per value (at most two), as a live or a stored figure.

    ``figure`` is pure, and returns the same number and types of traces for every value of the controls.
    Raises TypeError on a control that is no Slider, and ValueError on no control or more than two.
    """
    for name, control in controls.items():
        if not isinstance(control, Slider):
            raise TypeError(f"control {name!r} is {control!r}; it must be a Slider")
    if not 1 <= len(controls) <= 2:
        raise ValueError(f"explore takes one or two sliders, got {len(controls)}")
    if static():
        start = {name: control.start for name, control in controls.items()}
        beside = {STATES: compact(states(figure, controls))}
        show(static_form(figure, controls), picture=figure(**start), beside=beside)
        print(*(_caption(control) for control in controls.values()), sep="\n")
    else:
        display(live_form(figure, controls))


def live_form(figure: Callable[..., go.Figure], controls: dict[str, Slider]) -> widgets.VBox:
    """The controls, a place for messages, and a FigureWidget that is redrawn in place when a control moves."""
    start = {name: control.start for name, control in controls.items()}
    first = figure(**start)
    handles = {name: _control(name, control, description(first)) for name, control in controls.items()}
    picture = go.FigureWidget(first)
    picture._config = picture._config | CONFIG | {"responsive": True}
    message = widgets.HTML().add_class("emc2-message")
    shown, drawn = _in_words(controls, start), _parts(first)
    made = {tuple(handle.index for handle in handles.values()): first}  # a value that comes again is there at once

    def redraw(_):
        nonlocal shown, drawn
        places = tuple(handle.index for handle in handles.values())
        values = {name: controls[name].values[handle.index] for name, handle in handles.items()}
        words = _in_words(controls, values)
        try:
            new = made[places] if places in made else figure(**values)
            drawn = _replace(picture, drawn, new)
            made[places] = new
        except Exception as error:  # raised out of a callback, it would be lost and the old picture would stay
            message.value = (
                f'<p role="alert" style="color: {VERMILION}">No picture for {escape(words)}. '
                f"<b>{type(error).__name__}: {escape(str(error))}</b>. Below is still {escape(shown)}.</p>"
            )
        else:
            shown, message.value = words, ""
            for handle in handles.values():
                handle.description = description(new)

    for handle in handles.values():
        handle.observe(redraw, names="index")
    return widgets.VBox([*handles.values(), message, picture])


def static_form(figure: Callable[..., go.Figure], controls: dict[str, Slider]) -> go.Figure:
    """One plotly figure whose own slider holds the pictures for every value of the first control.

    A second control stays at its start.
    """
    (name, first), *others = controls.items()
    fixed = {other: control.start for other, control in others}
    pictures = [figure(**{name: value}, **fixed) for value in first.values]
    for picture in pictures:
        _check_same_traces(pictures[0], picture)
    changes = zip(first.values, _changes(pictures), strict=True)
    steps = [{"label": first.number(value), "method": "update", "args": change} for value, change in changes]
    caption = {"prefix": f"{first.label} = ", "suffix": f" {first.unit}".rstrip(), "xanchor": "left"}
    place = {"y": 1, "yanchor": "bottom", "pad": {"t": 10, "b": 40}}  # above the plot: the legend lies below
    slider = {"active": first.start_place, "steps": steps, "currentvalue": caption, **place}
    result = go.Figure(pictures[first.start_place])
    margin, height = result.layout.margin.t or 60, result.layout.height or HEIGHT
    return result.update_layout(sliders=[slider], height=height + ROOM, margin_t=margin + ROOM)


def states(figure: Callable[..., go.Figure], controls: dict[str, Slider]) -> dict[str, Any]:
    """What a page without a kernel needs, beside the stored figure, to move it.

    ``controls``: of each the label, the texts of its values and the place of its start. ``descriptions``: the figure's,
    for each value of the first control, and within it of the second. ``changes``: with two controls, for each of these
    the changes of the traces and of the layout, as plotly's ``update`` takes them; the stored figure's slider has those
    of one control. A second control stays at its start where the changes exceed `LARGEST`.
    """
    choices = [dict(zip(controls, values, strict=True)) for values in product(*(c.values for c in controls.values()))]
    pictures = [figure(**choice) for choice in choices]
    changes = _changes(pictures) if len(controls) > 1 else []
    if len(compact(changes)) > LARGEST:
        (name, first), *others = controls.items()
        return states(partial(figure, **{other: control.start for other, control in others}), {name: first})
    told = [{"label": c.label, "texts": [*map(c.text, c.values)], "start": c.start_place} for c in controls.values()]
    return {"controls": told, "descriptions": [*map(description, pictures)], "changes": changes}


def _control(name: str, control: Slider, picture: str) -> Control:
    texts = [control.text(value) for value in control.values]
    handle = Control(label=control.label, texts=texts, index=control.start_place, description=picture)
    return handle.add_class("emc2-slider").add_class(f"emc2-{name}")


def _caption(control: Slider) -> str:
    """What a stored picture shows, and what moves where."""
    values = f"{control.number(control.values[0])} to {control.text(control.values[-1])}"
    return f"{control.label}: {control.text(control.start)} in the picture; run the cell to move it, {values}."


def _in_words(controls: dict[str, Slider], values: dict[str, Any]) -> str:
    return ", ".join(f"{control.label} = {control.text(values[name])}" for name, control in controls.items())


def _check_same_traces(first: go.Figure, other: go.Figure) -> None:
    before, now = ([trace.type for trace in picture.data] for picture in (first, other))
    if before != now:
        raise ValueError(f"a figure with sliders needs the same traces for every value; it has {now} after {before}")


def _leaves(part: Any, path: str = "") -> dict[str, Any]:
    """The properties of a trace or a layout by their dotted paths, such as ``xaxis.range``."""
    leaves: dict[str, Any] = {}
    for key, value in (part if path else part.to_plotly_json()).items():
        if isinstance(value, dict) and path + key not in ("template", "meta"):
            leaves |= _leaves(value, f"{path}{key}.")
        elif path + key not in ("type", "uid", "template"):
            leaves[path + key] = value
    return leaves


def _parts(figure: go.Figure) -> list[dict[str, Any]]:
    return [*map(_leaves, figure.data), _leaves(figure.layout)]


def _replace(picture: go.FigureWidget, drawn: list[dict[str, Any]], new: go.Figure) -> list[dict[str, Any]]:
    """Turn ``picture``, which shows the parts ``drawn``, into ``new`` in place, and return the parts of ``new``.

    Only what differs is set here and sent to the browser.
    """
    _check_same_traces(picture, new)
    wanted = _parts(new)
    with picture.batch_update():
        for part, before, after in zip([*picture.data, picture.layout], drawn, wanted, strict=True):
            for path in before.keys() - after.keys():
                part[path] = None
            for path, value in after.items():
                if path not in before or not _same(before[path], value):
                    part[path] = value
    return wanted


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and one == other


def _changes(pictures: list[go.Figure]) -> list[list[dict[str, Any]]]:
    """For each picture, the properties of its traces and of its layout that differ between pictures.

    A trace property is a list with one value per trace, as plotly's ``update`` method takes them.
    """
    traces = _varying([[_leaves(trace) for trace in picture.data] for picture in pictures])
    layouts = _varying([[_leaves(picture.layout)] for picture in pictures])
    unlisted = [{path: value for path, (value,) in layout.items()} for layout in layouts]
    return [list(changes) for changes in zip(traces, unlisted, strict=True)]


def _varying(versions: list[list[dict]]) -> list[dict[str, list]]:
    paths = dict.fromkeys(path for version in versions for part in version for path in part)
    columns = {path: [[short(part.get(path)) for part in version] for version in versions] for path in paths}
    varying = {path: column for path, column in columns.items() if any(values != column[0] for values in column)}
    return [{path: column[i] for path, column in varying.items()} for i in range(len(versions))]


def compact(content: Any) -> str:
    """JSON without spaces."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def short(value: Any, digits: int = 6) -> Any:
    """Plain numbers of so many significant digits, more than a screen shows, so that what is stored stays small."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, list | tuple):
        return [short(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
