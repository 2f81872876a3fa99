"""Figures of chapter 04: how fast a Metropolis-Hastings walk forgets its start, and how much it repeats itself."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from emc2_lite.course.figures.parts import ABOVE, BELOW, TOP_LEFT, TOP_RIGHT, Figure, Look, from_zero, log, looks
from emc2_lite.course.style import BLUE, GREEN, GREY, PURPLE, VERMILION


def forgetting(distances: Tensor, bound: Tensor, worst_case: Tensor) -> Figure:
    """Exact total variation to p after t = 0, 1, ... steps from each start, (steps, m), and two bounds (steps,)."""
    figure = Figure()
    t = range(len(distances))
    for k, distance in enumerate(distances.T):
        starts = {"legendgroup": "starts", "showlegend": k == 0}
        figure.curve(t, distance, "exact, a line a start", Look(GREY, "dot"), width=1, size=0, **starts)
    figure.curve(t, distances.amax(dim=1), "exact, worst start", 0)
    figure.curve(t, bound, "bound (1 - 1/(m p_max))^t", 1, size=0)
    figure.curve(t, worst_case, "worst-case bound (1 - exp(-2/temperature))^t", 3, size=0)
    y = log("total variation to p", range=[-4, 0.15], exponentformat="none")
    return figure.finish("How fast the start is forgotten", "steps t", y, BELOW, height=490)


def steps_needed(temperatures: Sequence[float], needed: Tensor, worst_case: Tensor, epsilon: float) -> Figure:
    """Steps until the bound on the total variation is epsilon: (temperatures, rows), and of the worst case."""
    figure = Figure().curve(temperatures, worst_case, "knowing only that |⟨z, z'⟩| ≤ 1", 1)
    figure.band(temperatures, needed.amin(dim=1), needed.amax(dim=1), f"knowing p_max: all {needed.shape[1]} rows")
    figure.curve(temperatures, needed.quantile(0.5, dim=1), "knowing p_max: median row", 0)
    y = log("steps", exponentformat="power", dtick=3, range=[0, 19])
    title = f"Steps that guarantee a total variation of at most {epsilon:g}"
    return figure.finish(title, log("temperature", temperatures), y, TOP_RIGHT)


def temperature_effect(target: Tensor, steps: Tensor, distance: Tensor, temperature: float) -> Figure:
    """Target p (m,); exact worst-start total variation (points,) after `steps` (points,), and its bound."""
    m, p_max = len(target), target.max().item()
    forget = m * p_max
    rank, t = range(1, m + 1), [10 ** (k / 20) for k in range(74)]
    figure = Figure().set_subplots(cols=2, horizontal_spacing=0.14, column_widths=[0.42, 0.58])
    left, right = {"row": 1, "col": 1}, {"row": 1, "col": 2}
    figure.curve(rank, target.sort(descending=True).values, "target p", Look(GREEN), size=0, **left)
    figure.level(rank, 1 / m, "uniform, 1/m", Look(GREY, "dash"), **left)
    figure.curve(t, [(1 - 1 / forget) ** s for s in t], "bound", Look(VERMILION, "dash"), size=0, **right)
    figure.curve([forget, forget], [0, 1.05], "m p_max steps", Look(PURPLE, "dot"), size=0, **right)
    figure.points(steps, distance, "exact, worst start", Look(BLUE), size=9, **right)
    figure.update_xaxes(log("negative, by its rank", range=[0, 2.7]), **left)
    figure.update_xaxes(log("steps t", range=[0, 3.65]), **right)
    figure.update_yaxes(log("probability p", dtick=2, range=[-9, 0.2], exponentformat="power"), **left)
    figure.update_yaxes(title="total variation to p", range=[0, 1.05], **right)
    title = f"Temperature {temperature:g}: p_max {p_max:.3f}, gap {1 / forget:.4f}, forgets in {forget:.0f} steps"
    return figure.finish(title, place=ABOVE, height=440)


def autocorrelation(lags: Tensor, curves: Mapping[float, Tensor], lambda_2: Mapping[float, float]) -> Figure:
    """Autocorrelation of the score, (lags,) by temperature, and its bound lambda_2^lag."""
    figure = Figure()
    smooth = [10 ** (k / 20) for k in range(60)]
    for number, (temperature, values) in enumerate(curves.items()):
        figure.points(lags, values, f"temperature {temperature:g}", number, size=9)
        figure.curve(smooth, [lambda_2[temperature] ** k for k in smooth], "its bound lambda_2^lag", number, size=0)
    y = {"title": "autocorrelation of the score", "range": [-0.05, 1.03]}
    return figure.finish("A cold walk repeats itself", log("lag (steps)"), y, BELOW, height=490)


def in_batch_error(series: Mapping[str, tuple[Sequence[float], Tensor]], floor: Tensor) -> Figure:
    """Total variation to p over m / |neg(r)|: by name, ratios and (points, repeats); `floor`: independent draws."""
    figure = Figure()
    styles = looks(series)
    for name, (ratios, errors) in series.items():
        for ratio, repeats in zip(ratios, errors, strict=True):
            faint = {"marker_opacity": 0.5, "showlegend": False, "hoverinfo": "skip"}
            figure.points([ratio] * len(repeats), repeats, name, styles[name], size=6, **faint)
        figure.curve(ratios, errors.mean(dim=1), name, styles[name], size=0)
    noise = {"fillcolor": GREY, "opacity": 0.35, "line_width": 0}
    text = {"text": "independent draws: what noise alone gives", "yanchor": "bottom"}
    figure.add_hrect(floor.min().item(), floor.max().item(), annotation=text, annotation_position="top right", **noise)
    x, y = {"title": "candidates a visit / states, m / |neg(r)|", "range": [0, 1.05]}, from_zero("total variation to p")
    return figure.finish("Few candidates out of many: the error goes away", x, y, TOP_LEFT)


def twin_error(mass: Sequence[float], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Total variation to p by the probability of the lesser of two probable views of a sample: a point for each row."""
    figure = Figure()
    for name, look in looks(errors).items():
        figure.points(mass, errors[name], name, look, size=9)
    x = from_zero("probability of the lesser twin (the largest such in the row)")
    title = "Where both views of a digit are probable, an error stays"
    return figure.finish(title, x, from_zero("total variation to p"), TOP_LEFT)
