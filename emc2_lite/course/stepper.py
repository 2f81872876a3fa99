"""A Metropolis-Hastings chain to step through: every step is computed here, and the page shows them one by one."""

from collections.abc import Sequence

import anywidget
import torch
import traitlets
from IPython.display import display
from torch import Tensor

from emc2_lite.course.figures.metropolis import stepped
from emc2_lite.course.live import FOLDER, compact, short
from emc2_lite.course.style import show, static
from emc2_lite.sampling import metropolis_hastings, spectral_gap, total_variation, transition_matrix

STEPS, SEEDS, DIGITS = 200, 10, 4
SHOWN = 60  # steps in the stored picture
CHAIN = "application/vnd.emc2.chain"  # the MIME type of `chain_of`, JSON as text


class Stepper(anywidget.AnyWidget):
    """The chain on the page, with buttons for a step, playing, a new start and new random numbers."""

    _esm = FOLDER / "stepper.js"
    _css = FOLDER / "stepper.css"
    chain = traitlets.Dict().tag(sync=True)


def step_through(similarities: Tensor, images: Tensor, temperatures: Sequence[float], *, start: float) -> None:
    """Display the chain over m candidates, similarities (m,) and images (m, 8, 8), at one of several temperatures.

    Where figures are stored, the picture after 60 steps at the temperature ``start`` takes its place.
    """
    chain = chain_of(similarities, images, temperatures, start=start)
    if static():
        show(stepped(chain, temperatures.index(start), SHOWN), beside={CHAIN: compact(chain)})
        print(f"{SHOWN} steps at temperature {start:g}; run the cell to step through the chain yourself.")
    else:
        display(Stepper(chain=chain))


def chain_of(similarities: Tensor, images: Tensor, temperatures: Sequence[float], *, start: float) -> dict:
    """All that the page shows, as plain numbers: `seeds` runs of proposals and uniform numbers at each temperature.

    proposals, uniforms: (seeds, steps). temperatures: for each the scores (m,) and softmax (m,) of the candidates; for
    each seed the candidate held after each step and whether the proposal was accepted, (seeds, steps), and the total
    variation of the histogram to the softmax; `law`, that of the law of the state after t steps, and its bound
    (1 - gap)^t, which holds for a new walker too: its first step is uniform, and 1/m >= p(k) / (m p_max) for each k.
    """
    generator = torch.Generator().manual_seed(0)
    m = len(similarities)
    proposals = torch.randint(m, (SEEDS, STEPS), generator=generator)
    uniforms = torch.rand(SEEDS, STEPS, generator=generator, dtype=torch.float64)
    uniforms = (uniforms * 1000).round().clamp(1, 999) / 1000  # as the page prints them
    levels = [_level(similarities.double() / t, proposals, uniforms) | {"temperature": t} for t in temperatures]
    return {
        "images": images.mul(255).round().int().flatten(1).tolist(),
        "proposals": proposals.tolist(),
        "uniforms": uniforms.tolist(),
        "levels": levels,
        "start": temperatures.index(start),
    }


def _level(scores: Tensor, proposals: Tensor, uniforms: Tensor) -> dict:
    new = torch.full((len(proposals),), -torch.inf, dtype=torch.float64)
    run = metropolis_hastings(scores[proposals], new, uniforms=uniforms)
    held, target = proposals.gather(1, run.state), scores.softmax(0)
    counts = torch.nn.functional.one_hot(held, len(scores)).cumsum(1)
    shares = counts / torch.arange(1, STEPS + 1)[:, None]
    matrix, law = transition_matrix(scores), torch.full_like(target, 1 / len(target))
    laws = [law]
    for _ in range(STEPS - 1):
        laws.append(laws[-1] @ matrix)
    bound = (1 - spectral_gap(scores)) ** torch.arange(1, STEPS + 1)
    return {
        "scores": short(scores.tolist(), DIGITS),
        "target": short(target.tolist(), DIGITS),
        "held": held.tolist(),
        "accepted": run.accepted.int().tolist(),
        "distance": short(total_variation(shares, target).tolist(), DIGITS),
        "law": short(total_variation(torch.stack(laws), target).tolist(), DIGITS),
        "bound": short(bound.tolist(), DIGITS),
    }
