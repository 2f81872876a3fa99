"""The chain to step through: the page gets the steps of the sampler, and the law that the bound promises."""

import json
import math

import torch

from emc2_lite.course.stepper import STEPS, chain_of

SIMILARITIES = torch.tensor([0.6, 0.55, 0.1, -0.3, 0.3])
TEMPERATURES = [0.07, 0.5]
CHAIN = chain_of(SIMILARITIES, torch.rand(5, 8, 8), TEMPERATURES, start=0.5)


def test_the_page_gets_plain_numbers():
    assert json.loads(json.dumps(CHAIN)) == CHAIN
    assert len(json.dumps(CHAIN)) < 200_000
    assert CHAIN["start"] == 1 and [level["temperature"] for level in CHAIN["levels"]] == TEMPERATURES


def test_each_step_follows_the_rule_that_the_page_prints():
    """A step is accepted if U is below exp(new score - held score); the walker begins with nothing."""
    for level in CHAIN["levels"]:
        for seed, (proposals, uniforms) in enumerate(zip(CHAIN["proposals"], CHAIN["uniforms"], strict=True)):
            held = None
            for step, (k, u) in enumerate(zip(proposals, uniforms, strict=True)):
                need = math.inf if held is None else math.exp(level["scores"][k] - level["scores"][held])
                if abs(u - need) > 0.01 * need:  # the page has scores of four digits
                    assert level["accepted"][seed][step] == (u < need)
                held = k if level["accepted"][seed][step] else held
                assert level["held"][seed][step] == held


def test_distances_are_those_of_the_histogram_and_the_law_stays_below_its_bound():
    for level in CHAIN["levels"]:
        target, held = torch.tensor(level["target"]), torch.tensor(level["held"][3])
        for step in (1, 10, STEPS):
            shares = torch.bincount(held[:step], minlength=5) / step
            assert abs(level["distance"][3][step - 1] - (shares - target).abs().sum().item() / 2) < 1e-3
        assert all(law <= bound + 1e-6 for law, bound in zip(level["law"], level["bound"], strict=True))
        assert level["law"][-1] < 0.01 < level["law"][0]
