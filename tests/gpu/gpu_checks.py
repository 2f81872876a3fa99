"""What only a GPU can show; with GPU_DEVICE=cpu the same on a CPU, to see that the checks themselves work.

`make gpu` runs them, and the tests of the Triton kernel beside them.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
import reference
import torch
from runs import outcome, same
from test_devices import run as visits_on
from torch import distributed as dist
from trials import LOSSES

from emc2_lite.laboratory import median_profile
from emc2_lite.losses import METHODS, DCLLoss, Parallel, make_criterion
from emc2_lite.training import Run, changed, read_config, replay
from emc2_lite.training.loop import views_of_epoch
from emc2_lite.training.run import precision_on
from emc2_lite.vision import DigitViews, ImageViews, load_digits

DEVICE = torch.empty(0, device=os.environ.get("GPU_DEVICE", "cuda")).device  # with its number
CPU = torch.device("cpu")


@pytest.fixture
def drawn_on_the_cpu(monkeypatch):
    """Losses take their random numbers from a generator of the CPU, whatever their device."""
    from emc2_lite.losses import emc2, negative_cache, two_view, visits
    from emc2_lite.sampling import random_uniforms

    generators = {}

    def of_the_cpu(generator):
        return generators.setdefault(id(generator), (generator, torch.Generator().manual_seed(0)))[1]

    def uniforms(shape, dtype, device, generator, columns=None):
        columns = None if columns is None else columns.cpu()
        return random_uniforms(shape, dtype, CPU, of_the_cpu(generator), columns).to(device)

    original = two_view.random_proposals

    def proposals(b, like, generator, *rest):
        drawn = original(b, torch.empty(0, dtype=like.dtype), of_the_cpu(generator), *rest)
        return tuple(part.to(like.device) for part in drawn)

    for module in (emc2, visits, negative_cache):
        monkeypatch.setattr(module, "random_uniforms", uniforms)
    monkeypatch.setattr(visits, "random_proposals", proposals)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_gives_the_values_and_gradients_of_the_cpu(name, drawn_on_the_cpu):
    here, _ = visits_on(name, CPU, around=nullcontext)
    there, criterion = visits_on(name, DEVICE, around=nullcontext)
    assert all(buffer.device == DEVICE for buffer in criterion.buffers())
    for (loss, gradient, *_), (other, other_gradient, *_) in zip(here, there, strict=True):
        assert other == pytest.approx(loss, rel=1e-4, abs=1e-5)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02), (torch.float16, 0.003)])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_gradient_of_the_whole_set_is_the_exact_one(dtype, error, temperature):
    """DCL over all samples against plain loops in float64, on the numbers that the dtype leaves."""
    table = reference.unit_vectors(24, 2, 16, seed=0).to(DEVICE, dtype).requires_grad_()
    DCLLoss(temperature)(*table.unbind(1), torch.arange(24, device=DEVICE)).backward()
    exact = reference.global_gradient(table.detach().cpu().double(), temperature)
    assert (table.grad.cpu().double() - exact).norm() < error * exact.norm()


def small(*arguments):
    named = {"training.epochs": 10, "training.checkpoint_seconds": 0, "training.evaluate_epochs": 0}
    parameters = [part for name, value in named.items() for part in ("-p", name, str(value))]
    return [sys.executable, "-m", "emc2_lite", "train", "digits", "--device", DEVICE.type, *parameters, *arguments]


@pytest.mark.parametrize("precision", ["float32", "auto", "float16"])
def test_a_killed_run_goes_on_to_the_same_weights(precision, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(small("-p", "training.precision", precision, "--output", whole), check=True)
    command = small("-p", "training.precision", precision, "--output", killed)
    process = subprocess.Popen(command)
    while not (killed / "last.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and outcome(killed)["step"] < 440
    subprocess.run([*command, "--resume"], check=True)
    first, second = outcome(whole), outcome(killed)
    assert first["step"] == second["step"] == 440
    for part in ("encoder", "criterion", "optimiser", "generator"):
        assert same(first[part], second[part]), part


def photograph_run(**values):
    images = torch.randint(256, (64, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    config = changed(read_config("stl10"), **{"training.device": DEVICE.type, **values})
    return Run(config, ImageViews(images.to(DEVICE), config.views), DEVICE)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="the CPU's compiler takes minutes")
def test_a_compiled_encoder_takes_the_same_steps():
    plain, compiled = (photograph_run(**{"training.compile": compile}) for compile in (False, True))
    for _ in range(3):
        plain.advance()
        compiled.advance()
    assert plain.means()["loss"] == pytest.approx(compiled.means()["loss"], rel=0.01)


@pytest.fixture
def whole_float32(monkeypatch):
    """Otherwise convolutions round to 10 bits, by another rule for other numbers of rows, and add in any order."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="only a GPU replays")
@pytest.mark.usefixtures("whole_float32")
@pytest.mark.parametrize("filled_up", [False, True])
@pytest.mark.parametrize("name", ["NT-Xent", "SogCLR", "cache", "EMC2", "EMC2 remembered"])
def test_a_replayed_run_takes_the_steps_of_a_launched_one(name, filled_up, monkeypatch):
    """Bit for bit; with passes that fill up a power of two, one step after eight common ones, to rounding.

    Without burn-in, rows whose first proposals are rejected encode the view that they hold again.
    """
    if not filled_up:
        monkeypatch.setattr(replay, "rounded_up", lambda count: count)
    method = METHODS[name]
    values = {"loss.method": name.split()[0], **{f"loss.{key}": value for key, value in method.settings.items()}}
    values |= {"training.precision": "float32", "loss.temperature": 0.01}
    if name.startswith("EMC2"):
        values["loss.burn_in"] = 0.0
    if name == "EMC2 remembered":
        values |= {"loss.reencode": 1.0, "loss.temperature": 0.001}
    replayed, launched = (photograph_run(**values, **{"training.cuda_graphs": on}) for on in (True, False))
    for _ in range(8):
        replayed.advance()
        launched.advance()
    assert bool(replayed.update.replayed.parts) == (name not in ("NT-Xent", "SogCLR"))
    if filled_up:
        launched.load_state_dict(replayed.state_dict())
    replayed.advance()
    launched.advance()
    for one, other in zip(replayed.encoder.parameters(), launched.encoder.parameters(), strict=True):
        difference, whole = (one.grad - other.grad).norm().item(), other.grad.norm().item()
        assert difference <= (1e-3 if filled_up else 0) * whole


@pytest.mark.skipif(DEVICE.type != "cuda", reason="only a GPU replays")
@pytest.mark.usefixtures("whole_float32")
@pytest.mark.parametrize("count", [5, 8, 40])
def test_a_replayed_encoder_has_the_embeddings_and_gradients_of_the_launched_one(count):
    """With and without gradient, and twice in a step, when the second pass must not overwrite the first."""
    encoder = photograph_run(**{"training.precision": "float32"}).encoder
    images, weights = torch.rand(2, count, 3, 96, 96, device=DEVICE), list(encoder.parameters())

    def passes(make):
        embeddings = [make(part) for part in images]
        gradients = [torch.autograd.grad(z[:, 0].sum(), weights) for z in embeddings]
        return [z.detach() for z in embeddings], [torch.cat([g.flatten() for g in gs]) for gs in gradients]

    replayed = replay.ReplayedEncoder(encoder, None)
    found = passes(replayed.again)  # first, for a graph of the launched passes must not be alive while it records
    with torch.no_grad():
        scores = replayed.again(images[0])
    expected = passes(encoder)
    torch.testing.assert_close(scores, expected[0][0], rtol=1e-4, atol=1e-5)
    for one, other, gradient, right in zip(found[0], expected[0], found[1], expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert (gradient - right).norm() <= 1e-3 * right.norm()


def test_a_step_of_the_papers_run_is_finite_and_its_profile_is_printed(capsys):
    """The phases of a step, in milliseconds: the line to compare with the next change's."""
    run = photograph_run()
    assert run.precision == precision_on(DEVICE, "auto")
    order = torch.arange(64, device=DEVICE).split(32)
    batches = [(index, views_of_epoch(epoch, index)) for epoch in range(3) for index in order]
    phases = median_profile(run.update, batches)
    assert run.update.embeddings.isfinite().all()
    with capsys.disabled():
        print(f"\n{DEVICE.type}, {run.precision}:", *(f"{name} {1000 * s:.1f} ms" for name, s in phases.items()))


def test_digits_learn_on_the_device():
    """After three epochs positives are far more alike than negatives."""
    config = changed(read_config("digits"), **{"training.device": DEVICE.type, "training.epochs": 3})
    run = Run(config, DigitViews(load_digits("train").images.to(DEVICE)), DEVICE)
    while not run.finished:
        run.advance()
    first, second = run.update.embeddings.chunk(2)
    assert (first * second).sum(dim=1).mean() > 0.5 + (first * second.roll(1, 0)).sum(dim=1).mean()


def test_a_group_of_nccl_gives_the_losses_of_one_process():
    """One process: `Parallel` gathers, sums and shares through nccl, which takes tensors of the GPU only."""
    backend = "nccl" if DEVICE.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        views, index = torch.randn(2, 16, 8, device=DEVICE), torch.arange(16, device=DEVICE)
        z1, z2 = torch.nn.functional.normalize(views, dim=-1)
        for name in ("NT-Xent", "DCL", "SogCLR", "EMC2 remembered", "cache"):
            values = []
            for parallel in (None, Parallel()):
                how = {"num_samples": 16, "dim": 8, "temperature": 0.1, "parallel": parallel}
                criterion, leaf = make_criterion(name, **how).to(DEVICE), z1.clone().requires_grad_()
                generator = torch.Generator(DEVICE).manual_seed(0)
                loss = criterion(leaf, z2, index, None, lambda i, v: torch.stack((z1, z2))[v, i], generator)
                loss.backward()
                whole = criterion.state_dict() if parallel is None else parallel.whole(criterion.state_dict())
                values.append((loss, leaf.grad, {key: value.cpu() for key, value in whole.items()}))
            torch.testing.assert_close(values[1], values[0])
    finally:
        dist.destroy_process_group()
