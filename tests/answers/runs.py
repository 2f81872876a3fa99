"""Right and wrong answers to the exercises of chapter 07."""

import copy
import io
import math
import os
import shutil

import numpy as np
import torch

from emc2_lite.course.checks import runs
from emc2_lite.training import load_checkpoint, save_checkpoint, views_of_epoch
from emc2_lite.vision import view_uniforms


def changed(pixels, mirror, light):
    """One picture, (3, H, W)."""
    return ((0.5 + light) * (pixels.flip(-1) if mirror < 0.5 else pixels)).clamp(0, 1)


def one_by_one(images, index, view):
    return torch.stack([changed(images[i], *row) for i, row in zip(index, view_uniforms(index, view, 2), strict=True)])


def one_view_at_a_time(images, index, view):
    rows = [view_uniforms(index[k : k + 1], view[k : k + 1], 2)[0] for k in range(len(index))]
    return torch.stack([changed(images[index[k]], *row) for k, row in enumerate(rows)])


def in_numpy(images, index, view):
    uniforms, pixels = view_uniforms(index, view, 2).numpy(), images.numpy()[index.numpy()].copy()
    mirrored = uniforms[:, 0] < 0.5
    pixels[mirrored] = pixels[mirrored][..., ::-1]
    return np.clip((0.5 + uniforms[:, 1])[:, None, None, None] * pixels, 0, 1)


def from_uniforms(draw, flip=-1, clamp=True):
    """Views from `draw(index, view)`, (k, 2)."""

    def views(images, index, view):
        mirror, light = draw(index, view)[:, :, None, None, None].unbind(1)
        pixels = (0.5 + light) * torch.where(mirror < 0.5, images[index].flip(flip), images[index])
        return pixels.clamp(0, 1) if clamp else pixels

    return views


def stream(index, view):
    """Numbers by the place in the batch, from a seed."""
    return torch.rand(len(index), 2, generator=torch.Generator().manual_seed(int(view[0])))


def loop(update, two_passes=False, numbers=views_of_epoch, value=lambda run: run.criterion.stats.loss.item()):
    """A loop whose backward pass and step `update(run, loss)` makes."""

    def train_steps(run, steps):
        def encode(index, view):
            return run.encoder(run.views(index, view))

        losses = []
        while len(losses) < steps:
            epoch, index = next(run.sampler)
            view = numbers(epoch, index)
            if two_passes:
                z1, z2 = encode(index, view[0]), encode(index, view[1])
            else:
                z1, z2 = encode(torch.cat((index, index)), torch.cat((view[0], view[1]))).chunk(2)
            update(run, run.criterion(z1, z2, index, view, encode=encode, generator=run.generator))
            losses.append(value(run))
        return losses

    return train_steps


def followed(run, loss):
    loss.backward()
    run.optimiser.step()
    run.schedule.step()
    run.optimiser.zero_grad(set_to_none=False)


def followed_by_grad(run, loss):
    weights = list(run.encoder.parameters())
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient
    run.optimiser.step()
    run.schedule.step()


def followed_uphill(run, loss):
    followed(run, -loss)


def followed_twice(run, loss):
    run.optimiser.zero_grad()
    loss.backward()
    run.optimiser.step()
    run.optimiser.step()
    run.schedule.step()


def not_followed(run, loss):
    run.schedule.step()


def in_order(run, steps):
    """Batches without shuffling: the sampler is not asked."""
    run.sampler = ((0, torch.arange(3)) for _ in range(steps))
    return loop(followed)(run, steps)


def pytorch_scaler(gradients, scale, patience):
    """PyTorch's scaler; a parameter of weight 0 and rate -1 collects what the optimiser gets."""
    weight = torch.nn.Parameter(torch.zeros_like(gradients[0]))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=patience)
    updates, scales = [], []
    for gradient in gradients:
        scaler.scale(torch.zeros(()))  # makes the scaler's scale
        weight.grad = (scaler.get_scale() * gradient).half().float()
        with torch.no_grad():
            weight.zero_()
        scaler.step(optimiser)
        scaler.update()
        updates.append(-weight.detach().clone())
        scales.append(scaler.get_scale())
    return torch.stack(updates), scales


def scaler_in_numpy(gradients, scale, patience):
    updates, scales, streak = np.zeros_like(gradients.numpy()), np.zeros(len(gradients)), 0
    for step, gradient in enumerate(gradients.numpy()):
        with np.errstate(over="ignore"):
            half = (np.float32(scale) * gradient).astype(np.float16)
        if np.isfinite(half).all():
            updates[step], streak = half.astype(np.float32) / np.float32(scale), streak + 1
        else:
            scale, streak = 0.5 * scale, 0
        if streak == patience:
            scale, streak = 2 * scale, 0
        scales[step] = scale
    return updates, scales


def scaler_that(doubles_after=0, halves=2.0, rounds=True):
    def scaled_steps(gradients, scale, patience):
        updates, scales, good = torch.zeros_like(gradients), [], 0
        for step, gradient in enumerate(gradients):
            half = (scale * gradient).half()
            if half.isfinite().all():
                updates[step], good = half.float() / scale if rounds else gradient, good + 1
            else:
                scale, good = scale / halves, 0
            if good == patience + doubles_after:
                scale, good = 2 * scale, 0
            scales.append(scale)
        return updates, scales

    return scaled_steps


def part_by_part(run):
    return {
        "encoder": {name: weights.clone() for name, weights in run.encoder.state_dict().items()},
        "optimiser": copy.deepcopy(run.optimiser.state_dict()),
        "criterion": dict(run.criterion.named_buffers()),
        "schedule": run.schedule.state_dict(),
        "sampler": {"epoch": run.sampler.epoch, "start": run.sampler.start, "order": run.sampler.order.clone()},
        "generator": run.generator.get_state(),
    }


def with_more(run):
    """Further entries do no harm."""
    return {"step": run.schedule.last_epoch, "note": "the middle"} | part_by_part(run)


def state_with(**changes):
    """A whole state in which some parts are other numbers of the run; None leaves one out."""

    def state_of(run):
        state = part_by_part(run) | {name: other and other(run) for name, other in changes.items()}
        return {name: value for name, value in state.items() if value is not None}

    return state_of


def library_checkpoints(new_run, steps, path, watch):
    run = new_run()
    if path.is_file():
        state = load_checkpoint(path)
        run.generator.set_state(state.pop("generator"))
        state.pop("format")
        for name, part in state.items():
            getattr(run, name).load_state_dict(part)
    for step in range(run.schedule.last_epoch + 1, steps + 1):
        loop(followed)(run, 1)
        save_checkpoint(path, part_by_part(run))
        watch(step)
    return torch.nn.utils.parameters_to_vector(run.encoder.parameters())


def with_own_counter(new_run, steps, path, watch):
    """Bytes first, then a file beside the checkpoint, flushed; the step is counted by hand."""
    run, done, beside = new_run(), 0, f"{path}.new"
    if os.path.exists(path):
        with open(path, "rb") as file:
            state = torch.load(file, weights_only=True)
        done = state["done"]
        run.generator.set_state(state["generator"])
        for name in ("encoder", "criterion", "optimiser", "schedule", "sampler"):
            getattr(run, name).load_state_dict(state[name])
    while done < steps:
        runs.train_steps.reference(run, 1)
        done += 1
        content = io.BytesIO()
        torch.save({**part_by_part(run), "done": done}, content)
        with open(beside, "wb") as file:
            file.write(content.getbuffer())
            os.fsync(file.fileno())
        os.replace(beside, path)
        watch(done)
    return torch.cat([weights.detach().flatten() for weights in run.encoder.parameters()])


def survivor_that(save=None, kept=None, last=False, extra=0):
    """`save(state, path, draft)` writes; `kept` are the parts that are loaded; `last`: only the end is saved."""

    def survivor(new_run, steps, path, watch):
        run, draft = new_run(), path.with_suffix(".draft")
        if path.exists():
            state = torch.load(path, weights_only=True)
            for name in kept or runs.PARTS:
                getattr(run, name).load_state_dict(state[name])
            if kept is None:
                run.generator.set_state(state["generator"])
        while (done := run.schedule.last_epoch) < steps + extra:
            runs.train_steps.reference(run, 1)
            if not last or done == steps - 1:
                (save or whole)(part_by_part(run), path, draft)
            watch(done + 1)
        return torch.nn.utils.parameters_to_vector(run.encoder.parameters())

    return survivor


def whole(state, path, draft):
    torch.save(state, draft)
    draft.replace(path)


def doubled(gradient):
    scale = 2.0**-60
    while 2 * scale * gradient.abs().max() <= 65504:
        scale *= 2
    return scale


RIGHT = [
    (runs.plain_views, one_by_one),
    (runs.plain_views, one_view_at_a_time),
    (runs.plain_views, in_numpy),
    (runs.train_steps, loop(followed)),
    (runs.train_steps, loop(followed, two_passes=True)),
    (runs.train_steps, loop(followed_by_grad)),
    (runs.scaled_steps, pytorch_scaler),
    (runs.scaled_steps, scaler_in_numpy),
    (runs.state_of, part_by_part),
    (runs.state_of, with_more),
    (runs.survivor, library_checkpoints),
    (runs.survivor, with_own_counter),
    (runs.survivor, survivor_that()),
    (
        runs.rate_share,
        lambda step, warmup, total: (
            min(1, (step + 1) / max(warmup, 1))
            * (1 - math.sin(math.pi / 2 * max(0, step - warmup) / (total - warmup)) ** 2)
        ),
    ),
    (runs.rate_share, lambda s, w, n: (s + 1) / w if s < w else math.cos(math.pi / 2 * (s - w) / (n - w)) ** 2),
    (
        runs.clipped,
        lambda gradients, most: tuple(
            g / max(1, sum(x.square().sum() for x in gradients) ** 0.5 / most) for g in gradients
        ),
    ),
    (
        runs.clipped,
        lambda gradients, most: [
            g * (most / (sum(x.norm() ** 2 for x in gradients).sqrt() + 1e-6)).clamp(max=1) for g in gradients
        ],
    ),
    (runs.largest_scale, doubled),
    (runs.largest_scale, lambda gradient: 2 ** torch.floor(torch.log2(65504 / gradient.abs().max()))),
]


def cosine(x):
    return (1 + math.cos(math.pi * x)) / 2


def falling(shape, end=0):
    """A rate that rises in the warm-up, then is ``shape`` of the share of the steps up to ``total - end``."""
    return lambda step, warmup, total: (
        (step + 1) / warmup if step < warmup else shape((step - warmup) / (total - end - warmup))
    )


def length(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


def scaled(share):
    return lambda gradients, most: [share(gradients, most) * gradient for gradient in gradients]


def power(size, largest=65504, rounded=math.floor):
    """The scale for a tensor whose size is ``size(gradient)``."""
    return lambda gradient: 2.0 ** rounded(math.log2(largest / size(gradient).item()))


def largest(gradient):
    return gradient.abs().max()


def in_place(gradients, most):
    for gradient in gradients:
        gradient.mul_(min(1.0, most / length(gradients)))
    return gradients


def in_place_by_one_share(gradients, most):
    share = min(1.0, most / length(gradients))
    for gradient in gradients:
        gradient *= share


def written_by(write):
    """A run with a checkpoint that `write(state, path)` makes."""

    def survivor(new_run, steps, path, watch):
        run = new_run()
        if path.exists():
            runs._restore(run, torch.load(path, weights_only=True))
        while run.schedule.last_epoch < steps:
            runs._train_steps(run, 1)
            write(runs._state_of(run), path)
            watch(run.schedule.last_epoch)
        return runs._weights(run)

    return survivor


def as_bytes(state, path):
    content = io.BytesIO()
    torch.save(state, content)
    path.write_bytes(content.getvalue())


def as_a_copy(state, path):
    draft = path.with_suffix(".draft")
    torch.save(state, draft)
    path.unlink(missing_ok=True)
    shutil.copy(draft, path)


WRONG = [
    (runs.plain_views, from_uniforms(stream)),
    (runs.plain_views, from_uniforms(lambda i, v: view_uniforms(i, v, 2), flip=-2)),
    (runs.plain_views, from_uniforms(lambda i, v: view_uniforms(i, v, 2), clamp=False)),
    (runs.plain_views, from_uniforms(lambda i, v: view_uniforms(i, v, 2).flip(1))),
    (runs.plain_views, from_uniforms(lambda i, v: view_uniforms(torch.arange(len(i)), v, 2))),
    (runs.plain_views, from_uniforms(lambda i, v: view_uniforms(i, v, 1).expand(-1, 2))),
    (runs.train_steps, loop(followed_uphill)),
    (runs.train_steps, loop(followed_twice)),
    (runs.train_steps, loop(not_followed)),
    (runs.train_steps, loop(followed, numbers=lambda epoch, index: views_of_epoch(epoch + 1, index))),
    (runs.train_steps, loop(followed, numbers=lambda epoch, index: views_of_epoch(epoch, index).flip(0))),
    (runs.train_steps, loop(followed, value=lambda run: 0.0)),
    (runs.train_steps, in_order),
    (runs.train_steps, lambda run, steps: loop(followed)(run, steps - 1)),
    (runs.train_steps, lambda run, steps: [*loop(followed)(run, steps - 1), 1.0]),
    (runs.scaled_steps, scaler_that(doubles_after=1)),
    (runs.scaled_steps, scaler_that(halves=4.0)),
    (runs.scaled_steps, scaler_that(halves=1.0)),
    (runs.scaled_steps, scaler_that(rounds=False)),
    (runs.scaled_steps, lambda gradients, scale, patience: (gradients, [scale] * len(gradients))),
    (runs.scaled_steps, lambda gradients, scale, patience: runs.scaled_steps.reference(gradients, scale, patience)[0]),
    (runs.clipped, in_place),
    (runs.clipped, in_place_by_one_share),
    (runs.state_of, lambda run: {}),
    (runs.state_of, lambda run: part_by_part(run)["encoder"]),
    (runs.state_of, lambda run: {"optimizer" if k == "optimiser" else k: v for k, v in part_by_part(run).items()}),
    (runs.state_of, lambda run: list(part_by_part(run).values())),
    (runs.state_of, lambda run: vars(run)),
    (runs.state_of, lambda run: {name: getattr(run, name) for name in (*runs.PARTS, "generator")}),
    (runs.state_of, state_with(generator=lambda run: run.generator)),
    (runs.state_of, state_with(generator=lambda run: run.generator.initial_seed())),
    (runs.state_of, state_with(generator=lambda run: torch.Generator().manual_seed(0).get_state(), sampler=None)),
    (runs.state_of, state_with(schedule=lambda run: run.schedule.last_epoch)),
    (runs.state_of, state_with(encoder=lambda run: run.encoder)),
    (runs.state_of, state_with(sampler=lambda run: run.sampler.state_dict() | {"start": 0})),
    (runs.state_of, state_with(optimiser=None, generator=None)),
    (
        runs.state_of,
        state_with(encoder=lambda run: {k: v.bfloat16() for k, v in run.encoder.state_dict().items()}),
    ),
    (runs.survivor, survivor_that(last=True)),
    (runs.survivor, survivor_that(extra=1)),
    (runs.survivor, survivor_that(kept=("encoder", "optimiser", "schedule", "sampler"))),
    (runs.survivor, survivor_that(kept=runs.PARTS)),
    (runs.survivor, lambda *case: dict(enumerate(runs.survivor.reference(*case)))),
    (runs.survivor, lambda *case: runs.survivor.reference(*case).split(17)),
    (runs.survivor, lambda new_run, steps, path, watch: torch.zeros(68)),
    (runs.rate_share, lambda step, warmup, total: 1.0),
    (runs.rate_share, lambda step, warmup, total: cosine(step / total)),
    (runs.rate_share, falling(lambda x: 1.0)),
    (runs.rate_share, lambda step, warmup, total: min(1.0, (step + 1) / max(warmup, 1))),
    (runs.rate_share, falling(lambda x: 1 - x * x * (3 - 2 * x))),
    (runs.rate_share, falling(lambda x: math.cos(math.pi * x / 2))),
    (runs.rate_share, falling(lambda x: 1 - x if x < 0.9 else cosine(x))),
    (runs.rate_share, lambda step, warmup, total: min(1, (step + 1) / max(warmup, 1)) * cosine(step / total)),
    (runs.rate_share, falling(cosine, end=1)),
    (runs.clipped, scaled(lambda gradients, most: most if length(gradients) > most else 1)),
    (runs.clipped, scaled(lambda gradients, most: most / length(gradients) if length(gradients) > 1 else 1)),
    (runs.clipped, lambda gradients, most: runs.clipped.reference(gradients, most)[:3]),
    (runs.clipped, scaled(lambda gradients, most: min(1, most / length(gradients) ** 2))),
    (runs.clipped, scaled(lambda gradients, most: min(1, most / length(gradients[:-1])))),
    (runs.clipped, scaled(lambda gradients, most: most)),
    (runs.clipped, lambda gradients, most: gradients),
    (runs.clipped, lambda gradients, most: [g / max(1.0, g.abs().max().item() / most) for g in gradients]),
    (runs.clipped, lambda gradients, most: torch.cat([gradient.flatten() for gradient in gradients])),
    (runs.largest_scale, lambda gradient: 65536.0),
    (runs.largest_scale, power(lambda gradient: gradient.abs().sum())),
    (runs.largest_scale, power(lambda gradient: gradient.min().abs().clamp_min(1e-9))),
    (runs.largest_scale, power(lambda gradient: gradient.flatten()[:2].abs().max())),
    (runs.largest_scale, lambda gradient: max(1.0, power(largest)(gradient))),
    (runs.largest_scale, lambda gradient: min(2.0**24, power(largest)(gradient))),
    (runs.largest_scale, lambda gradient: 2.0 ** (15 - math.floor(math.log2(largest(gradient))))),
    (runs.largest_scale, power(largest, largest=65536)),
    (runs.largest_scale, power(lambda gradient: gradient.abs().mean())),
    (runs.largest_scale, power(largest, rounded=math.ceil)),
]
