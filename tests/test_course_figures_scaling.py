"""The figures of chapter 09, and its processes that threads play."""

import pytest
import torch

from emc2_lite.course.checks.scaling import Alone, in_processes, process_step, together
from emc2_lite.course.figures import scaling
from emc2_lite.laboratory.scaling import STATE, Machine, step_work

RATES = Machine(1e-5, 6e-4, 3e-10, 2e-8, 5e-9, 9e-4, 4e-3, 1e-8, 1e-4)
SIZES = {"samples": 1437, "dim": 32, "weights": 92_768}


def bars(method="EMC2", b=64, machine=RATES):
    works = {str(k): step_work(method, batch_size=b, processes=k, **SIZES) for k in (1, 2, 4, 8)}
    return works, scaling.parts_of_a_step(works, machine, f"{method}, b = {b}")


def test_the_parts_of_a_step_sum_to_its_time():
    works, figure = bars()
    *parts, sums = figure.data
    for place, work in enumerate(works.values()):
        seconds = RATES.seconds(work)
        assert sum(part.y[place] for part in parts) == pytest.approx(1000 * seconds)
        assert sums.y[place] == pytest.approx(1000 * seconds)


@pytest.mark.parametrize("method", STATE)
def test_a_live_step_has_the_same_traces_for_every_value(method):
    kinds = {tuple(trace.type for trace in bars(name, b)[1].data) for name in ("EMC2", method) for b in (16, 256)}
    assert len(kinds) == 1


def rows():
    methods = ("NT-Xent", "cache")
    return [
        {"method": method, "batch_size": b, "processes": k, "milliseconds": b * k / 10, "predicted": b * k / 9}
        for method in methods for b in (16, 256) for k in (1, 2)
    ]  # fmt: skip


FIGURES = {
    "predicted": lambda: scaling.predicted(rows(), "Steps"),
    "parts": lambda: bars()[1],
    "state of one": lambda: scaling.state(128, 1, [1e5, 1e10]),
    "state of many": lambda: scaling.state(128, 64, [1e5, 1e10]),
    "distances": lambda: scaling.distances([1, 10], {"DCL": [0.8, 0.4]}, "Distances", "visits", ticks=[1, 10]),
}


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_every_figure_is_told_in_words_with_numbers(figure):
    drawn = figure()
    assert drawn.layout.title.text.replace("<br>", " ") in drawn.layout.meta["alt"]
    assert any(letter.isdigit() for letter in drawn.layout.meta["alt"])
    for axis in (drawn.layout.xaxis, drawn.layout.yaxis):
        assert 0 < len(axis.title.text) <= 34


def test_messages_come_in_the_order_of_the_ranks():
    def program(process):
        parts = [process.gather(torch.full((process.rank + 1,), i + process.rank)) for i in range(3)]
        return [part.tolist() for part in parts[2]], process.reduce(torch.tensor(2.0**process.rank)).item()

    assert together(3, program) == [([[2], [3, 3], [4, 4, 4]], 7.0)] * 3


def test_a_message_carries_no_gradient_and_is_a_copy():
    def program(process):
        own = torch.zeros(2, requires_grad=True)
        first, second = process.gather(own)
        first += 1
        return first.requires_grad, own.sum().item() + second.sum().item()

    assert together(2, program) == [(False, 0.0)] * 2


def test_a_process_does_not_wait_for_one_that_has_ended():
    def program(process):
        return process.rank == 0 or process.gather(torch.ones(1))

    with pytest.raises(Alone, match="all must send equally many"):
        together(2, program)


def test_the_error_of_a_process_is_told_not_that_of_those_who_wait_for_it():
    def program(process):
        if process.rank == 1:
            raise ValueError("mine")
        return process.gather(torch.ones(1))

    with pytest.raises(ValueError, match="mine"):
        together(3, program)


@pytest.mark.parametrize(("first", "said"), [(True, "do all send the same messages"), (False, "equally many")])
def test_the_check_says_where_messages_do_not_meet(first, said):
    def step(process, x1, x2, weights, temperature):
        if first and process.rank == 0:
            process.reduce(x1.sum())
        answer = process_step.reference(process, x1, x2, weights, temperature)
        if not first and process.rank == 0:
            process.reduce(x1.sum())
        return answer

    verdict = process_step.verdict(step)
    assert said in verdict
    assert "(process.reduce(x1.sum()))" in verdict


def test_the_failing_input_of_the_build_can_be_run_alone_and_together():
    assert process_step.verdict(lambda *_: (0.0, 0.0)).startswith("not yet")
    alone = process_step.reference(*process_step.case)
    for answer in in_processes(process_step.reference, *process_step.case):
        for part, expected in zip(answer, alone, strict=True):
            torch.testing.assert_close(part, expected, rtol=1e-10, atol=1e-12)


def test_pixels_are_no_message_of_the_build():
    """Neither gathered as they are, nor turned, nor added up from zeros: every process would encode the whole batch."""

    def sends(message):
        return process_step.verdict(lambda process, x1, x2, *rest: message(process, x1, x2))

    for message in (
        lambda process, x1, x2: process.gather(x1),
        lambda process, x1, x2: process.gather(torch.cat((x2, x1), dim=1).T),
        lambda process, x1, x2: process.reduce(torch.cat((torch.zeros_like(x1), x1)).flatten()),
    ):
        assert "These are pixels: gather embeddings" in sends(message)
