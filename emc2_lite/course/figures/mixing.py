"""Figures of chapters 04 and 05: how fast a walk forgets its start, repeats itself, and suffers from batches."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from emc2_lite.course.figures.parts import Figure, Look, from_zero, log, looks
from emc2_lite.course.style import GREY, PURPLE


def forgetting(distances: Tensor, bound: Tensor, worst_case: Tensor) -> Figure:
    """Exact total variation to p after t = 0, 1, ... steps from each start, (steps, m), and two bounds (steps,)."""
    figure = Figure()
    t = range(len(distances))
    for k, distance in enumerate(distances.T):
        starts = {"legendgroup": "starts", "showlegend": k == 0}
        figure.curve(t, distance, "exact, one line per start", Look(GREY, "dot"), width=1, size=0, **starts)
    worst = distances.amax(dim=1)
    figure.curve(t, worst, "exact, worst start", 0)
    figure.curve(t, bound, "bound with p_max", 1, size=0)
    figure.curve(t, worst_case, "bound without p_max", 3, size=0)
    y = log("total variation to p", range=[-4, 0.15], exponentformat="none")
    last = len(distances) - 1
    alt = (
        f"Total variation to the softmax over 0 to {last} steps, on a logarithmic axis. From the worst start it "
        f"falls to {worst[-1]:.1e}; the bound with p_max falls to {bound[-1]:.1e}; the bound without p_max is "
        f"still at {worst_case[-1]:.4f}."
    )
    return figure.finish("How fast the start is forgotten", "steps t", y, height=490, alt=alt)


def steps_needed(temperatures: Sequence[float], needed: Tensor, worst_case: Tensor, epsilon: float) -> Figure:
    """Steps until the bound on the total variation is epsilon: (temperatures, rows), and of the worst case."""
    figure = Figure().curve(temperatures, worst_case, "without p_max", 1)
    figure.band(temperatures, needed.amin(dim=1), needed.amax(dim=1), f"with p_max: all {needed.shape[1]} rows")
    median = needed.quantile(0.5, dim=1)
    figure.curve(temperatures, median, "with p_max: median row", 0)
    y = log("steps", exponentformat="power", dtick=3, range=[0, 19])
    alt = (
        f"Steps that guarantee a total variation of at most {epsilon:g}, over temperatures from "
        f"{temperatures[0]:g} to {temperatures[-1]:g}, both axes logarithmic. The bound without p_max falls from "
        f"{worst_case[0]:.0e} to {worst_case[-1]:.0f} steps; with p_max the median row falls from {median[0]:.0f} "
        f"to {median[-1]:.0f}, and no row needs more than {needed.max():.0f}."
    )
    x = log("temperature", [0.05, 0.1, 0.2, 0.5, 1])
    return figure.finish(f"Steps that guarantee a distance of {epsilon:g}", x, y, height=450, alt=alt)


SMOOTH = [10 ** (k / 10) for k in range(38)]


def temperature_effect(
    steps: Sequence[int], distance: Sequence[float], p_max: float, num_negatives: int, temperature: float
) -> Figure:
    """Exact total variation from the worst start after `steps`, and its bound (1 - 1 / (num_negatives p_max))^t."""
    forget = num_negatives * p_max
    figure = Figure().curve(SMOOTH, [(1 - 1 / forget) ** t for t in SMOOTH], "bound", 1, size=0)
    figure.points(steps, distance, "exact, worst start", 0, size=9)
    figure.curve([forget, forget], [0, 1.05], "t = |neg(r)| p_max", Look(PURPLE, "dot"), size=0)
    x = log("steps t", range=[-0.05, 3.75], exponentformat="none")
    y = {"title": "total variation to p", "range": [0, 1.05], "dtick": 0.25}
    half = next((t for t, there in zip(steps, distance, strict=True) if there < 0.5), steps[-1])
    alt = (
        f"Total variation to the softmax over the steps of a walk at temperature {temperature:g}, from the worst "
        f"start, exact and by its bound. The largest share is {p_max:.3f}, so the start is forgotten in about "
        f"{forget:.0f} steps; after {half} the distance is below one half."
    )
    title = f"p_max {p_max:.3f}: forgets in {forget:.0f} steps"
    return figure.finish(title, x, y, alt=alt)


def autocorrelation(lags: Tensor, curves: Mapping[float, Tensor], lambda_2: Mapping[float, float]) -> Figure:
    """Autocorrelation of the score, (lags,) by temperature, and its bound lambda_2^lag."""
    figure = Figure()
    smooth = [10 ** (k / 20) for k in range(60)]
    for number, (temperature, values) in enumerate(curves.items()):
        figure.points(lags, values, f"temperature {temperature:g}", number, size=9)
        figure.curve(smooth, [lambda_2[temperature] ** k for k in smooth], "its bound lambda_2^t", number, size=0)
    y = {"title": "autocorrelation of the score", "range": [-0.05, 1.03]}
    below = {t: [int(lag) for lag, a in zip(lags, v, strict=True) if a < 0.5][:1] for t, v in curves.items()}
    said = "; ".join(f"{lag[0]} at temperature {t:g}" for t, lag in below.items() if lag)
    alt = (
        f"Autocorrelation of the score that a walk holds, over lags from {lags[0]} to {lags[-1]} steps, with its "
        f"bound lambda_2 to the power of the lag, at {len(curves)} temperatures. The first lag drawn at which it "
        f"is below one half is {said}. No point lies above its bound."
    )
    x = log("lag t, steps", exponentformat="none")
    return figure.finish("A cold walk repeats itself", x, y, height=490, alt=alt)


def in_batch_error(series: Mapping[str, tuple[Sequence[float], Tensor]], floor: Tensor) -> Figure:
    """Total variation to p over m / |neg(r)|: by name, ratios and (points, repeats); `floor`: independent draws."""
    figure = Figure()
    styles, said = looks(series), []
    for name, (ratios, errors) in series.items():
        for ratio, repeats in zip(ratios, errors, strict=True):
            faint = {"marker_opacity": 0.5, "showlegend": False, "hoverinfo": "skip"}
            figure.points([ratio] * len(repeats), repeats, name, styles[name], size=6, **faint)
        mean = errors.mean(dim=1)
        figure.curve(ratios, mean, name, styles[name], size=0)
        said.append(f"{name}: {mean[0]:.3f} at a ratio of {ratios[0]:.2f}, {mean[-1]:.3f} at {ratios[-1]:.2f}")
    low, high = floor.min().item(), floor.max().item()
    figure.band([0, 1.05], [low, low], [high, high], "independent draws: noise alone")
    alt = (
        "Total variation between a walk's shares and the softmax, over the candidates of a visit divided by the "
        f"number of states. {'; '.join(said)}. Independent draws, the noise: {low:.3f} to {high:.3f}."
    )
    x, y = {"title": "m / |neg(r)|", "range": [0, 1.05]}, from_zero("total variation to p")
    return figure.finish("Few of many: the error goes away", x, y, height=450, alt=alt)


def twin_error(mass: Sequence[float], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Total variation to p by the probability of the lesser of two probable views of a sample: a point for each row."""
    figure = Figure()
    for name, look in looks(errors).items():
        figure.points(mass, errors[name], name, look, size=9)
    likeliest = max(range(len(mass)), key=mass.__getitem__)
    said = "; ".join(
        f"{name}: {values[likeliest]:.3f} there, from {min(values):.3f}" for name, values in errors.items()
    )
    alt = (
        f"Total variation between a walk's shares and the softmax in {len(mass)} rows, over the probability of "
        f"the lesser of two views of one digit, which reaches {mass[likeliest]:.2f}. {said}."
    )
    x = from_zero("probability of the lesser twin")
    title = "Two probable views: an error stays"
    return figure.finish(title, x, from_zero("total variation to p"), height=450, alt=alt)
