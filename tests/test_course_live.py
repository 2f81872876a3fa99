"""Figures with sliders: the live form follows its slider, the stored form holds the same pictures."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from emc2_lite.course import Slider, explore, live
from emc2_lite.course.live import live_form, states, static_form
from emc2_lite.course.style import OUTPUT

TEMPERATURE = Slider("temperature", [0.1, 0.5, 1.0], start=0.5, unit="nats")
STEPS = Slider("steps", [1, 2])


def decay(temperature, steps=1):
    """A curve, a marker, and layout properties that come and go with the temperature."""
    x = np.linspace(0, 1, 5)
    figure = go.Figure([go.Scatter(x=x, y=np.exp(-steps * x / temperature)), go.Bar(x=[0], y=[temperature])])
    figure.update_layout(title=f"at {temperature}", xaxis_range=[0, 1 + temperature])
    figure.update_layout(meta={"alt": f"a curve at {temperature}"})
    if temperature < 1:
        figure.add_annotation(x=0, y=0, text="cold")
        figure.update_traces(marker_color="#0072B2", selector={"type": "bar"})
        figure.add_vline(x=temperature)
    return figure


def parts(form):
    *sliders, message, picture = form.children
    return sliders, message, picture


def content(figure):
    plain = json.loads(figure.to_json())
    for trace in plain["data"]:
        trace.pop("uid", None)
    return without_empty({"data": plain["data"], "layout": plain["layout"]})


def without_empty(node):
    """The same JSON without empty lists and objects, which mean nothing to plotly."""
    if isinstance(node, dict):
        kept = {key: without_empty(value) for key, value in node.items()}
        return {key: value for key, value in kept.items() if value not in ({}, [])}
    return [without_empty(item) for item in node] if isinstance(node, list) else node


def test_live_figure_follows_its_slider_in_place():
    (slider,), message, picture = parts(live_form(decay, {"temperature": TEMPERATURE}))
    for place, value in ((0, 0.1), (2, 1.0), (1, 0.5)):
        slider.index = place
        assert content(picture) == content(decay(value))
        assert message.value == ""


def test_a_value_that_comes_again_is_not_computed_again():
    asked = []
    form = live_form(lambda temperature: asked.append(temperature) or decay(temperature), {"temperature": TEMPERATURE})
    (slider,), _, picture = parts(form)
    for place in (0, 1, 2, 0, 1):
        slider.index = place
    assert asked == [0.5, 0.1, 1.0]
    assert content(picture) == content(decay(0.5))


def test_two_sliders_act_together():
    (temperature, steps), _, picture = parts(live_form(decay, {"temperature": TEMPERATURE, "steps": STEPS}))
    temperature.index, steps.index = 0, 1
    assert content(picture) == content(decay(0.1, 2))


def test_slider_can_be_found_and_read():
    (slider,), _, _ = parts(live_form(decay, {"temperature": TEMPERATURE}))
    assert {"emc2-slider", "emc2-temperature"} <= set(slider._dom_classes)
    assert slider.label == "temperature" and slider.texts == ["0.1 nats", "0.5 nats", "1 nat"] and slider.index == 1


def test_the_description_follows_the_picture():
    (slider,), _, _ = parts(live_form(decay, {"temperature": TEMPERATURE}))
    assert slider.description == "a curve at 0.5"
    slider.index = 2
    assert slider.description == "a curve at 1.0"


def test_only_what_differs_is_sent(monkeypatch):
    (slider,), _, picture = parts(live_form(decay, {"temperature": TEMPERATURE}))
    sent = []
    monkeypatch.setattr(picture, "_send_update_msg", lambda **data: sent.append(data))
    slider.index = 0
    (data,) = sent
    assert set(data["restyle_data"]) == {"y"}
    assert set(data["relayout_data"]) == {"title.text", "xaxis.range", "meta", "shapes"}


def test_an_error_in_the_figure_is_shown_and_goes_away():
    def fragile(temperature):
        if temperature == 1:
            raise ArithmeticError("no <limit>")
        return decay(temperature)

    (slider,), message, picture = parts(live_form(fragile, {"temperature": TEMPERATURE}))
    slider.index = 2
    assert "No picture for temperature = 1 nat" in message.value
    assert "ArithmeticError: no &lt;limit&gt;" in message.value
    assert "Below is still temperature = 0.5 nats" in message.value
    assert content(picture) == content(decay(0.5))
    slider.index = 0
    assert message.value == "" and picture.layout.title.text == "at 0.1"


def uneven(temperature):
    return go.Figure([go.Scatter(y=[1])] * (2 if temperature == 1 else 1))


def test_changing_traces_are_refused():
    (slider,), message, _ = parts(live_form(uneven, {"temperature": TEMPERATURE}))
    slider.index = 2
    assert "needs the same traces for every value" in message.value
    with pytest.raises(ValueError, match="needs the same traces for every value"):
        static_form(uneven, {"temperature": TEMPERATURE})


def test_stored_figure_holds_every_picture():
    stored = static_form(decay, {"temperature": TEMPERATURE})
    (slider,) = stored.layout.sliders
    assert slider.active == 1 and [step.label for step in slider.steps] == ["0.1", "0.5", "1"]
    for step, value in zip(slider.steps, TEMPERATURE.values, strict=True):
        traces, layout = step.args
        expected = decay(value)
        np.testing.assert_allclose(traces["y"][0], expected.data[0].y, rtol=1e-5)
        assert traces["y"][1] == [value]
        assert layout["title.text"] == f"at {value}" and layout["xaxis.range"] == [0, 1 + value]
        assert len(layout["annotations"] or ()) == len(expected.layout.annotations)
        assert traces["marker.color"][1] == expected.data[1].marker.color


def test_stored_figure_leaves_out_what_never_changes():
    stored = static_form(decay, {"temperature": TEMPERATURE})
    traces, layout = stored.layout.sliders[0].steps[0].args
    assert "x" not in traces and not any(key.startswith("template") for key in layout)


def test_explore_displays_the_live_form(monkeypatch):
    shown = []
    monkeypatch.setenv(OUTPUT, "live")
    monkeypatch.setattr("emc2_lite.course.live.display", shown.append)
    assert explore(decay, temperature=TEMPERATURE) is None
    assert [type(item).__name__ for item in shown] == ["VBox"]


def test_the_stored_picture_has_no_slider_and_a_line_says_what_moves(monkeypatch, capsys):
    shown = []
    monkeypatch.setenv(OUTPUT, "static")
    monkeypatch.setattr("emc2_lite.course.live.show", lambda figure, picture, beside: shown.extend((figure, picture)))
    explore(decay, temperature=TEMPERATURE, steps=STEPS)
    figure, picture = shown
    assert len(figure.layout.sliders) == 1 and not picture.layout.sliders
    assert content(picture) == content(decay(0.5))
    assert capsys.readouterr().out == (
        "temperature: 0.5 nats in the picture; run the cell to move it, 0.1 to 1 nat.\n"
        "steps: 1 in the picture; run the cell to move it, 1 to 2.\n"
    )


def test_states_turn_the_stored_figure_into_each_picture_of_two_controls():
    """What the book does with the changes of a state, done here: the result is the figure for these values."""
    controls = {"temperature": TEMPERATURE, "steps": STEPS}
    kept = json.loads(live.compact(states(decay, controls)))
    told = [(one["label"], one["texts"], one["start"]) for one in kept["controls"]]
    assert told == [("temperature", ["0.1 nats", "0.5 nats", "1 nat"], 1), ("steps", ["1", "2"], 0)]
    choices = [(temperature, steps) for temperature in TEMPERATURE.values for steps in STEPS.values]
    for state, (temperature, steps) in enumerate(choices):
        figure, (traces, layout) = decay(0.5), kept["changes"][state]
        for path, values in traces.items():
            for trace, value in zip(figure.data, values, strict=True):
                trace[path] = value
        figure.update_layout({path.replace(".", "_"): value for path, value in layout.items()}, overwrite=True)
        wanted = decay(temperature, steps)
        np.testing.assert_allclose(figure.data[0].y, wanted.data[0].y, rtol=1e-5)
        assert figure.data[1].y == wanted.data[1].y and figure.layout.title == wanted.layout.title
        assert len(figure.layout.annotations) == len(wanted.layout.annotations)
        assert kept["descriptions"][state] == f"a curve at {temperature}"


def test_a_second_control_stays_where_all_states_would_be_large(monkeypatch):
    monkeypatch.setattr(live, "LARGEST", 100)
    kept = states(decay, {"temperature": TEMPERATURE, "steps": STEPS})
    assert [one["label"] for one in kept["controls"]] == ["temperature"] and kept["changes"] == []
    assert kept["descriptions"] == [f"a curve at {temperature}" for temperature in TEMPERATURE.values]


def test_controls_are_checked():
    with pytest.raises(TypeError, match="control 'temperature' is 1; it must be a Slider"):
        explore(decay, temperature=1)
    with pytest.raises(ValueError, match="one or two sliders, got 0"):
        explore(decay)


def test_slider_values_are_checked():
    with pytest.raises(ValueError, match="at least one value and none twice"):
        Slider("steps", [1, 1])
    with pytest.raises(ValueError, match="starts at 3, which is not among"):
        Slider("steps", [1, 2], start=3)
