"""The collapse monitor: its numbers are exact, and it fires when the embeddings stay in one point."""

import math
import warnings

import pytest
import torch
from reference import unit_vectors
from runs import small

from emc2_lite.runs import train_run
from emc2_lite.training.collapse import PATIENCE, CollapseMonitor, collapse_numbers


def test_the_numbers_are_as_defined():
    z = unit_vectors(12, 5, dtype=torch.float64)
    numbers = collapse_numbers(z)
    similarities = [z[r] @ z[k] for r in range(12) for k in range(12) if r % 6 != k % 6]
    assert numbers["negative_similarity"] == pytest.approx(sum(similarities).item() / len(similarities), abs=1e-6)
    values = torch.linalg.eigvalsh(z.T @ z).clamp_min(0).sqrt()
    shares = (values / values.sum()).tolist()
    entropy = -sum(share * math.log(share) for share in shares)
    assert numbers["effective_rank"] == pytest.approx(math.exp(entropy), rel=1e-5)


def test_one_point_has_rank_1_and_an_orthogonal_basis_has_all_of_its_ranks():
    point = torch.nn.functional.normalize(torch.ones(8, 4), dim=1)
    assert collapse_numbers(point) == pytest.approx({"effective_rank": 1.0, "negative_similarity": 1.0}, abs=1e-3)
    basis = torch.eye(8)
    assert collapse_numbers(basis) == pytest.approx({"effective_rank": 8.0, "negative_similarity": 0.0}, abs=1e-5)


COLLAPSED = {"negative_similarity": 0.999, "effective_rank": 1.1}
WELL = {"negative_similarity": 0.2, "effective_rank": 9.0}


def fired(monitor: CollapseMonitor, steps: range, row: dict) -> list[int]:
    return [step for step in steps if monitor.fires(step, row)]


def test_the_monitor_fires_once_when_the_collapse_lasts():
    assert fired(CollapseMonitor(), range(50, 2000, 50), COLLAPSED) == [50 + PATIENCE]
    monitor = CollapseMonitor()
    assert not fired(monitor, range(50, 50 + PATIENCE, 50), COLLAPSED)
    assert not fired(monitor, range(50 + PATIENCE, 60 + PATIENCE, 10), WELL)
    assert not fired(monitor, range(100 + PATIENCE, 100 + 2 * PATIENCE, 50), COLLAPSED)


def test_a_collapsing_run_gives_a_warning_with_advice_and_a_good_run_none(tmp_path):
    few = {
        "training__epochs": 60,
        "training__log_steps": 30,
        "training__evaluate_epochs": 0,
        "optimiser__warmup_epochs": 0,
    }
    steep = small("NT-Xent", optimiser__name="sgd", optimiser__learning_rate=3.0, loss__temperature=0.07, **few)
    with pytest.warns(UserWarning, match="The embeddings have collapsed: .* lower optimiser.learning_rate than 3,"):
        record = train_run(steep, tmp_path / "steep", progress=False)
    rows = [row for row in record["metrics"] if "loss" in row]
    assert rows[-1]["negative_similarity"] > 0.99 and rows[-1]["effective_rank"] < 1.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = train_run(small("NT-Xent", **few), tmp_path / "good", progress=False)
    assert record["metrics"][-1]["negative_similarity"] < 0.9
