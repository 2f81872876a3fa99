"""The experiments' rows hold the laboratory's measurements, under the names and in the units of the records."""

from itertools import pairwise, product

import pytest
import torch

from emc2_lite.laboratory.experiments import EXPERIMENTS, trained_at_price
from emc2_lite.laboratory.experiments.at_rest import _edges
from emc2_lite.laboratory.experiments.mapping import MadeViews
from emc2_lite.laboratory.experiments.theorem import _middles
from emc2_lite.losses import NTXentLoss, global_contrastive_loss
from emc2_lite.training import train
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

VIEWS = DigitViews(load_digits("train").images[:12])


def rows_of(name, **parameters):
    config = EXPERIMENTS[name].config(parameters)
    return list(EXPERIMENTS[name].run(**config, progress=lambda text: None))


def assert_windows(rows, expected, methods=("DCL", "EMC2")):
    for method, ruler in product(methods, ("embeddings", "weights")):
        mine = [row for row in rows if (row["method"], row["ruler"]) == (method, ruler)]
        assert [(row["visits_from"], row["visits_to"]) for row in mine] == expected
        for row in mine:
            assert row["rmse"] > row["bias"] >= 0
            assert -1 <= row["cosine"] <= 1
            assert 0 <= row["views_encoded_with_gradient"] <= row["views_encoded"] <= 2 * 2 * 8
        assert (mine[-1]["views_encoded"] > 0) == (method == "EMC2")


def test_windows_after_a_jump_are_in_visits_since_the_jump():
    rows = rows_of(
        "jump", samples=32, batch_size=8, temperature=0.002, training_steps=1, jump_steps=1, visits_before=2,
        visits_after=[0, 1, 3], seeds=1, methods=["DCL", "EMC2"],
    )  # fmt: skip
    assert_windows(rows, [(0, 1), (1, 3)])


def test_windows_of_quality_end_when_a_chain_has_met_its_proposals():
    """b = 8: 14 proposals a visit, 4 steps an epoch. 854 proposals are 61 visits, 244 steps. 14 proposals are 1 visit,
    but a window has 100 steps or more, which are 25 visits.
    """
    rows = rows_of(
        "quality", samples=32, batch_sizes=[8], temperatures=[0.002], training_steps=1, proposals=[0, 14, 854],
        seeds=1, methods=["EMC2"], views=["stored"],
    )  # fmt: skip
    assert_windows(rows, [(0, 25), (25, 61)], methods=("EMC2",))


def test_every_window_of_quality_has_100_steps_or_more():
    """Also where the chains meet their proposals fast, and after a long first window."""
    for proposals in ((0, 1, 2, 3), (0, 6000, 6001), (0, 10, 5000, 5001)):
        for batch_size in (2, 8, 64):
            edges = _edges(proposals, 200, batch_size)
            assert all(end - start >= 100 for start, end in pairwise(edges))
            assert all(
                e >= round(met / (2 * batch_size - 2) * 200 / batch_size)
                for e, met in zip(edges, proposals, strict=True)
            )
    assert _edges((0, 60, 240, 600), 200, 8) == [0, 107, 429, 1071]


@pytest.mark.parametrize(("steps", "parts"), [(250, 100), (1000, 100), (16000, 100), (25, 25), (8, 2), (101, 100)])
def test_stationarity_measures_in_the_middle_of_equal_parts(steps, parts):
    middles = _middles(steps, parts)
    assert len(middles) == parts and all(one < other for one, other in pairwise(middles))
    assert middles[0] >= 0 and middles[-1] < steps
    assert all(abs(middle + 0.5 - steps * (part + 0.5) / parts) <= 1 for part, middle in enumerate(middles))


def test_a_run_measures_every_step_at_most():
    (row,) = rows_of("stationarity", horizons=[4], measurements=4, samples=4, methods=["DCL"], seeds=1)
    assert row["horizon"] == 4
    for name, parameters, fewest in (
        ("gradient-error", {"samples": 12, "batch_size": 4, "epochs": 1, "measurements": 4}, 3),
        ("stationarity", {"horizons": [200, 99]}, 99),
    ):
        with pytest.raises(ValueError, match=rf"and the shortest run has {fewest} steps: measure less often"):
            EXPERIMENTS[name].config(parameters)


PLACE = {"method": "NT-Xent", "temperature": 0.2, "batch_size": 4, "views": "stored", "seed": 3}
SMALL = PLACE | {"samples": 12, "visits": 4, "oracle_views": 3, "learning_rate": 1e-2}


def table_of(encoder, numbers):
    index = torch.arange(12)
    with torch.no_grad():
        return torch.stack([encoder(VIEWS(index, torch.full_like(index, number))) for number in numbers], dim=1)


@pytest.mark.parametrize(("kind", "numbers"), [("stored", (0, 1)), ("endless", [2**40 + v for v in range(3)])])
def test_a_cell_is_a_run_from_scratch_and_its_exact_loss_at_the_end(kind, numbers):
    """NT-Xent, 4 visits of 12 samples by batches of 4: 12 steps, at a rate that falls linearly to 0."""
    torch.manual_seed(3)
    encoder = DigitEncoder(32)
    optimiser = torch.optim.Adam(encoder.parameters(), 1e-2)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, 12)
    how = {"batch_size": 4, "seed": 3, "fixed_views": kind == "stored", "after_step": decay.step}
    train(encoder, VIEWS, NTXentLoss(0.2), steps=12, optimiser=optimiser, **how)
    table = table_of(encoder, numbers)
    flat = table.flatten(0, 1)
    other = torch.arange(len(flat))[:, None] // len(numbers) != torch.arange(len(flat)) // len(numbers)
    row = trained_at_price(**SMALL | {"views": kind})
    assert row == PLACE | {
        "views": kind,
        "visits": 4,
        "loss": pytest.approx(global_contrastive_loss(table, 0.2).item(), abs=1e-3),
        "steps": 12,
        "relative_price": 1.0,
        "mean_cosine": pytest.approx((flat @ flat.T)[other].mean().item(), abs=1e-3),
    }


def test_a_method_that_encodes_again_takes_fewer_steps_for_the_same_price():
    """72 encodings a visit, 24 a step of NT-Xent. At this temperature chains stay, and held views are encoded again."""
    row = trained_at_price(**SMALL | {"method": "EMC2", "temperature": 0.002, "visits": 20})
    assert row["steps"] < 60
    spent = row["relative_price"] * 24 * row["steps"]
    assert 20 * 72 <= spent < 20 * 72 + 14 * 4


def test_stored_views_are_the_views_that_are_made_each_time():
    made = MadeViews(VIEWS, (5, 2))
    index = torch.tensor([3, 0, 3])
    assert torch.equal(made(index, torch.tensor([0, 1, 1])), VIEWS(index, torch.tensor([5, 2, 2])))
    assert torch.equal(made.originals(index), VIEWS.originals(index)) and len(made) == 12


def test_cells_of_the_map_cover_the_grid_with_whole_seeds_first_and_the_longest_runs_first():
    cells = EXPERIMENTS["map"].cells(EXPERIMENTS["map"].config({"batch_sizes": [32, 2], "seeds": 2}))
    assert len(cells) == 7 * 3 * 2 * 2 * 2 == len({tuple(cell.values()) for cell in cells})
    assert [cell["seed"] for cell in cells] == 84 * [0] + 84 * [1]
    assert [cell["batch_size"] for cell in cells] == 2 * (42 * [2] + 42 * [32])
    assert {(cell["batch_size"], cell["learning_rate"]) for cell in cells} == {(2, 5e-4), (32, 2e-3)}
    budgets = [cell["visits"] for cell in EXPERIMENTS["patience"].cells(EXPERIMENTS["patience"].config({"seeds": 1}))]
    assert budgets == 8 * [120] + 8 * [30]
