"""Solutions of chapter 07. Each passes its check in `emc2_lite.course.checks.runs`."""

import math

import torch

from emc2_lite.vision import view_uniforms


def plain_views(images, index, view):
    """Row n of the numbers belongs to pair n: each view has its own, whatever else is in the batch."""
    mirror, light = view_uniforms(index, view, 2)[:, :, None, None, None].unbind(1)  # (k, 1, 1, 1) each
    pixels = images[index]
    pixels = torch.where(mirror < 0.5, pixels.flip(-1), pixels)
    return ((0.5 + light) * pixels).clamp(0, 1)


def rate_share(step, warmup, total):
    """Up in a line that ends at 1, then down along half a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def train_steps(run, steps):
    """Both views of a batch in one pass, as 2b rows; the gradient of this step alone; the rate of the next step."""

    def encode(index, view):
        return run.encoder(run.views(index, view))

    losses = []
    for _ in range(steps):
        epoch, index = next(run.sampler)
        first = torch.full_like(index, 2 * epoch)
        view = torch.stack((first, first + 1))
        z1, z2 = encode(index.repeat(2), view.flatten()).chunk(2)
        loss = run.criterion(z1, z2, index, view, encode, run.generator)
        run.optimiser.zero_grad()
        loss.backward()
        run.optimiser.step()
        run.schedule.step()
        losses.append(run.criterion.stats.loss.item())
    return losses


def largest_scale(gradient):
    """Multiplying by a power of two is exact; 65504 is the largest number of float16."""
    return 2.0 ** math.floor(math.log2(65504 / gradient.abs().max().item()))


def scaled_steps(gradients, scale, patience):
    """The scale falls at once, when a step is lost, and rises slowly, when `patience` steps in a row were good."""
    updates, scales, good = [], [], 0
    for gradient in gradients:
        half = (scale * gradient).half()  # what the backward pass of the scaled loss leaves
        if half.isfinite().all():
            updates.append(half.float() / scale)
            good += 1
        else:
            updates.append(torch.zeros_like(gradient))
            scale, good = scale / 2, 0
        if good == patience:
            scale, good = 2 * scale, 0
        scales.append(scale)
    return torch.stack(updates), torch.tensor(scales)


def clipped(gradients, most):
    """One length for all tensors together, and one share for all of them: the direction stays."""
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    share = min(1.0, most / length)
    return [share * gradient for gradient in gradients]


def state_of(run):
    """A part that has changed since the run began must be here; what new_run makes again need not be."""
    names = ("encoder", "criterion", "optimiser", "schedule", "sampler")
    state = {name: getattr(run, name).state_dict() for name in names}
    return state | {"generator": run.generator.get_state()}


def survivor(new_run, steps, path, watch):
    """The checkpoint has its name only when it is whole, and it has it before the step is told to anyone."""
    names = ("encoder", "criterion", "optimiser", "schedule", "sampler")
    run, draft = new_run(), path.with_suffix(".draft")

    def encode(index, view):
        return run.encoder(run.views(index, view))

    if path.exists():
        state = torch.load(path, weights_only=True)
        for name in names:
            getattr(run, name).load_state_dict(state[name])
        run.generator.set_state(state["generator"].cpu())
    while run.schedule.last_epoch < steps:
        epoch, index = next(run.sampler)
        view = torch.stack((torch.full_like(index, 2 * epoch), torch.full_like(index, 2 * epoch + 1)))
        z1, z2 = encode(index.repeat(2), view.flatten()).chunk(2)
        loss = run.criterion(z1, z2, index, view, encode, run.generator)
        run.optimiser.zero_grad()
        loss.backward()
        run.optimiser.step()
        run.schedule.step()
        state = {name: getattr(run, name).state_dict() for name in names}
        torch.save(state | {"generator": run.generator.get_state()}, draft)
        draft.replace(path)  # old or new, never half: a rename is one act
        watch(run.schedule.last_epoch)
    return torch.cat([weights.detach().flatten() for weights in run.encoder.parameters()])
