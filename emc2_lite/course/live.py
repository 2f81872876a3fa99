"""Figures with sliders: live where a kernel answers, one stored figure with plotly's own slider where none does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from IPython.display import display

from emc2_lite.course.style import CONFIG, HEIGHT, VERMILION, static


@dataclass(frozen=True)
class Slider:
    """A control with a short list of values.

    ``start`` is the value shown first (by default the first of ``values``); ``unit`` is written behind the value.
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

    def text(self, value: Any) -> str:
        """The value as a reader sees it, with its unit."""
        return f"{self.number(value)} {self.unit}".rstrip()

    def number(self, value: Any) -> str:
        """The value as a reader sees it, without its unit."""
        return f"{value:g}" if isinstance(value, float) else str(value)


def explore(figure: Callable[..., go.Figure], **controls: Slider) -> None:
    """Display ``figure(**values)`` with one slider per control (at most two), as a live or a stored figure.

    ``figure`` is pure, and returns the same number and types of traces for every value of the controls.
    Raises TypeError on a control that is no Slider, and ValueError on no control or more than two.
    """
    for name, control in controls.items():
        if not isinstance(control, Slider):
            raise TypeError(f"control {name!r} is {control!r}; it must be a Slider")
    if not 1 <= len(controls) <= 2:
        raise ValueError(f"explore takes one or two sliders, got {len(controls)}")
    if static():
        static_form(figure, controls).show()
    else:
        display(live_form(figure, controls))


def live_form(figure: Callable[..., go.Figure], controls: dict[str, Slider]) -> widgets.VBox:
    """The sliders, a place for messages, and a FigureWidget that is redrawn in place when a slider moves."""
    sliders = {name: _selection_slider(name, control) for name, control in controls.items()}
    start = {name: control.start for name, control in controls.items()}
    picture = go.FigureWidget(figure(**start))
    picture._config = picture._config | CONFIG
    message = widgets.HTML().add_class("emc2-message")
    shown = _in_words(controls, start)

    def redraw(_):
        nonlocal shown
        values = {name: slider.value for name, slider in sliders.items()}
        words = _in_words(controls, values)
        try:
            _replace(picture, figure(**values))
        except Exception as error:  # raised out of a callback, it would be lost and the old picture would stay
            message.value = (
                f'<p role="alert" style="color: {VERMILION}">No picture for {escape(words)}. '
                f"<b>{type(error).__name__}: {escape(str(error))}</b>. Below is still {escape(shown)}.</p>"
            )
        else:
            shown, message.value = words, ""

    for slider in sliders.values():
        slider.observe(redraw, names="value")
    return widgets.VBox([*sliders.values(), message, picture])


def static_form(figure: Callable[..., go.Figure], controls: dict[str, Slider]) -> go.Figure:
    """One plotly figure whose own slider holds the pictures for every value of the first control.

    A second control stays at its start, and the caption of the slider says so.
    """
    (name, first), *others = controls.items()
    fixed = {other: control.start for other, control in others}
    pictures = [figure(**{name: value}, **fixed) for value in first.values]
    for picture in pictures:
        _check_same_traces(pictures[0], picture)
    changes = zip(first.values, _changes(pictures), strict=True)
    steps = [{"label": first.number(value), "method": "update", "args": change} for value, change in changes]
    active = first.values.index(first.start)
    note = "".join(f"; {other.label} = {other.text(other.start)} (run the cell to move it)" for _, other in others)
    caption = {"prefix": f"{first.label} = ", "suffix": f" {first.unit}".rstrip() + note, "xanchor": "left"}
    slider = {"active": active, "steps": steps, "currentvalue": caption, "pad": {"t": 75, "b": 10}}
    result = go.Figure(pictures[active])
    return result.update_layout(sliders=[slider], height=(result.layout.height or HEIGHT) + 110)


def _selection_slider(name: str, control: Slider) -> widgets.SelectionSlider:
    options = [(control.text(value), value) for value in control.values]
    words = {"description": control.label, "tooltip": f"{control.label}: move with the arrow keys"}
    size = {"style": {"description_width": "initial"}, "layout": {"width": "min(100%, 620px)"}}
    slider = widgets.SelectionSlider(options=options, value=control.start, **words, **size)
    return slider.add_class("emc2-slider").add_class(f"emc2-{name}")


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
        if isinstance(value, dict) and path + key != "template":
            leaves |= _leaves(value, f"{path}{key}.")
        elif path + key not in ("type", "uid", "template"):
            leaves[path + key] = value
    return leaves


def _replace(picture: go.FigureWidget, new: go.Figure) -> None:
    """Turn ``picture`` into ``new`` in place; plotly sends only the differences to the browser."""
    _check_same_traces(picture, new)
    with picture.batch_update():
        for old_part, new_part in [*zip(picture.data, new.data, strict=True), (picture.layout, new.layout)]:
            wanted = _leaves(new_part)
            for path in [*(_leaves(old_part).keys() - wanted.keys()), *wanted]:
                old_part[path] = wanted.get(path)


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
    columns = {path: [[_short(part.get(path)) for part in version] for version in versions] for path in paths}
    varying = {path: column for path, column in columns.items() if any(values != column[0] for values in column)}
    return [{path: column[i] for path, column in varying.items()} for i in range(len(versions))]


def _short(value: Any) -> Any:
    """Plain numbers of six significant digits, more than a screen shows, so that a stored figure stays small."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
