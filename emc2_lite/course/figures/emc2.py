"""Figures of chapter 05: chains that live across batches."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from torch import Tensor

from emc2_lite.course.style import BLUE, DASHES, GREEN, GREY, MARKERS, PURPLE, VERMILION
from emc2_lite.laboratory import GradientBias


def chain_over_visits(
    proposed: Tensor, held: Tensor, accepted: Tensor, steps_per_visit: int, burn_in: float
) -> go.Figure:
    """One chain, step by step: (steps,) scores proposed, (steps,) scores held, (steps,) bool; burn-in is shaded."""
    step = list(range(1, len(proposed) + 1))
    figure = go.Figure()
    for name, chosen, marker, colour in (
        ("rejected", ~accepted, "x-thin", GREY),
        ("accepted", accepted, "circle", GREEN),
    ):
        figure.add_scatter(
            x=[s for s, keep in zip(step, chosen.tolist(), strict=True) if keep],
            y=proposed[chosen].tolist(),
            name=f"{name} proposal",
            mode="markers",
            marker={"symbol": marker, "size": 9, "color": colour, "line": {"color": colour, "width": 2}},
        )
    figure.add_scatter(
        x=step, y=held.tolist(), name="score held", mode="lines", line={"shape": "hv", "color": BLUE, "width": 2}
    )
    for start in range(0, len(step), steps_per_visit):
        figure.add_vrect(
            x0=start + 0.5,
            x1=start + 0.5 + int(burn_in * steps_per_visit),
            fillcolor=GREY,
            opacity=0.15,
            line_width=0,
        )
        figure.add_vline(x=start + 0.5, line={"color": GREY, "width": 1})
    return figure.update_layout(
        title="One chain across its visits (shaded: steps dropped as burn-in)",
        xaxis={"title": "step of the chain", "showgrid": False},
        yaxis={"title": "score l (dimensionless)"},
        legend={"orientation": "h", "y": -0.3},
        margin={"b": 110},
    )


def followed_law(target: Tensor, carried: Tensor, restarted: Tensor, temperature: float, shown: int = 12) -> go.Figure:
    """Shares of the `shown` most probable negatives: exact softmax (m,), the carried chain's, the restarted one's."""
    top = target.argsort(descending=True)[:shown]
    figure = go.Figure()
    for name, law, colour, pattern in (
        ("exact softmax", target, GREY, ""),
        ("carried from batch to batch", carried, BLUE, "/"),
        ("started anew in each", restarted, VERMILION, "x"),
    ):
        figure.add_bar(
            x=list(range(1, shown + 1)),
            y=law[top].tolist(),
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern, "solidity": 0.3}},
        )
    return figure.update_layout(
        title={"text": f"Where a visit ends, temperature {temperature:g}", "y": 0.97},
        xaxis={"title": "negative, by its exact probability (rank)", "dtick": 1, "showgrid": False},
        yaxis={"title": "share of visit ends (dimensionless)", "rangemode": "tozero"},
        bargap=0.25,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        margin={"t": 90},
    )


def bias_curves(results: Mapping[str, Sequence[GradientBias]], temperature: float) -> go.Figure:
    """Error of the mean gradient over the steps averaged: per name one curve a table, and its mean drawn bold."""
    figure = go.Figure()
    styles = zip((GREY, VERMILION, BLUE, PURPLE), DASHES, MARKERS, strict=False)
    for (name, runs), (colour, dash, marker) in zip(results.items(), styles, strict=False):
        steps = runs[0].steps.tolist()
        for run in runs:
            figure.add_scatter(
                x=steps,
                y=run.error.tolist(),
                mode="lines",
                line={"color": colour, "width": 1, "dash": dash},
                opacity=0.5,
                showlegend=False,
                hoverinfo="skip",
            )
        mean = sum(run.error for run in runs) / len(runs)
        figure.add_scatter(
            x=steps,
            y=mean.tolist(),
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 3, "dash": dash},
            marker={"symbol": marker, "size": 9},
        )
    return figure.update_layout(
        title=f"How far the mean gradient is from the exact one, temperature {temperature:g}",
        xaxis={"title": "steps averaged", "type": "log", "tickvals": steps, "ticktext": [str(s) for s in steps]},
        yaxis={"title": "relative error (dimensionless)", "rangemode": "tozero"},
        legend={"orientation": "h", "y": -0.3},
        margin={"b": 110},
    )


def stored_against_true(scores: Mapping[str, tuple[Tensor, Tensor]]) -> go.Figure:
    """Per name (chains,) scores as stored and (chains,) true scores; on the diagonal they agree."""
    figure = go.Figure()
    low = min(true.min().item() for _, true in scores.values())
    high = max(stored.max().item() for stored, _ in scores.values())
    figure.add_scatter(
        x=[low, high], y=[low, high], name="stored = true", mode="lines", line={"color": GREY, "dash": "dash"}
    )
    for (name, (stored, true)), colour, marker in zip(scores.items(), (BLUE, VERMILION), MARKERS[1:], strict=False):
        figure.add_scatter(
            x=true.tolist(),
            y=stored.tolist(),
            name=name,
            mode="markers",
            marker={"symbol": f"{marker}-open", "size": 7, "color": colour},
        )
    return figure.update_layout(
        title="What the chains believe, and what is true",
        xaxis={"title": "score of the held pair under today's weights (dimensionless)"},
        yaxis={"title": "score as stored (dimensionless)"},
        legend={"x": 0.98, "y": 0.05, "xanchor": "right", "yanchor": "bottom"},
    )


def sampler_times(rows: Sequence[Mapping[str, Any]], device: str) -> go.Figure:
    """Time of a visit by batch size, from the rows of a record of benchmarks and its device; both axes logarithmic."""
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, milliseconds in ((row["contender"], row["ms"]), (row["reference"], row["reference_ms"])):
            curves.setdefault(name, {})[int(row["size"].removeprefix("b="))] = milliseconds
    sizes = sorted(next(iter(curves.values())))
    figure = go.Figure()
    styles = zip((VERMILION, BLUE, GREY, PURPLE, GREEN), DASHES, MARKERS, strict=False)
    for (name, times), (colour, dash, marker) in zip(
        sorted(curves.items(), key=lambda curve: -curve[1][sizes[0]]), styles, strict=False
    ):
        figure.add_scatter(
            x=sizes,
            y=[times[b] for b in sizes],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"symbol": marker, "size": 9},
        )
    return figure.update_layout(
        title=f"A visit of 2b chains to 2b - 2 candidates each, {device}",
        xaxis={
            "title": "batch size b (samples)",
            "type": "log",
            "tickvals": sizes,
            "ticktext": [str(b) for b in sizes],
        },
        yaxis={"title": "time (ms)", "type": "log", "dtick": 1},
        legend={"orientation": "h", "y": -0.25},
        margin={"b": 130},
        height=480,
    )


def step_phases(profiles: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Seconds of the phases of a training step, stacked, one bar a loss."""
    figure = go.Figure()
    patterns = ("", "/", "x", "-", "\\", "|", "+")
    phases = next(iter(profiles.values()))
    for phase, colour, pattern in zip(
        phases, (GREY, BLUE, VERMILION, GREY, BLUE, GREEN, PURPLE), patterns, strict=True
    ):
        figure.add_bar(
            y=list(profiles),
            x=[1000 * profile[phase] for profile in profiles.values()],
            name=phase,
            orientation="h",
            marker={"color": colour, "pattern": {"shape": pattern, "solidity": 0.3}},
        )
    return figure.update_layout(
        title="Where the time of a training step goes",
        barmode="stack",
        xaxis={"title": "time (ms)"},
        yaxis={"autorange": "reversed", "showgrid": False},
        legend={"orientation": "h", "y": -0.3, "traceorder": "normal"},
        margin={"l": 110, "b": 130},
    )
