"""Solutions of chapter 06. Each passes its check in `emc2_lite.course.checks.laboratory`."""

import torch
from scipy.special import stdtrit

from emc2_lite.laboratory import exact_gradient, of_seeds


def squared_bias(first, second, exact):
    """The noise of two independent runs has mean zero in the product; in a square it does not.

    The result may be negative, where there is little bias and much noise.
    """
    return (first - exact) @ (second - exact) / (exact @ exact)


def bias_interval(squares):
    """The mean of unbiased estimates is unbiased; a root is not, so it comes last, and the sign is kept until then.

    The standard error is that of the mean of the seeds. With few seeds their spread is itself uncertain: Student's
    quantile makes up for that.
    """
    values = torch.as_tensor(squares, dtype=torch.float64)
    reach = stdtrit(len(values) - 1, 0.975) * values.std() / len(values) ** 0.5
    ends = values.mean(), values.mean() - reach, values.mean() + reach
    return tuple(max(float(end), 0.0) ** 0.5 for end in ends)


def shares_of_draws(scores, gumbels):
    """Each draw is a maximum of its own. The largest few of one row are all different: that flattens the shares."""
    draws = len(gumbels)
    drawn = (scores + gumbels).argmax(dim=1)
    weights = torch.zeros_like(scores)
    for negative in drawn:
        weights[negative] += 1 / draws
    return weights


def noise_of_runs(gradients, length, exact):
    """The spread of the means of runs. The number of runs less 1 divides, as their own mean was subtracted."""
    runs = gradients[: len(gradients) // length * length].unflatten(0, (-1, length))
    means = runs.mean(dim=1)
    return (length * means.var(dim=0).sum()).sqrt() / exact.norm()


def many_proposals(scores, held_score):
    """One softmax over the urn, then Liu's rule; a new chain holds a score of -inf, and never stays."""
    p = torch.cat((scores, held_score.view(1))).softmax(dim=0)
    weights = p[:-1] / (1 - torch.minimum(p[:-1], p[-1]))
    return weights, 1 - weights.sum()


def relative_price(batch_size, encoded, with_gradient):
    """In forward passes of one view: 3 for each encoding with gradient, 1 for each without, over the batch's own."""
    own = 3 * 2 * batch_size
    without = encoded - with_gradient
    return (own + 3 * with_gradient + without) / own


def experiment(make, table, temperature, batch_size, seeds, steps):
    """Two runs per seed, each with a criterion and random numbers of its own; one estimate per seed."""
    exact, squares = exact_gradient(table, temperature).flatten(), []

    def mean_gradient(generator):
        criterion, parameters, total = make(), table.clone().requires_grad_(), 0
        for _ in range(steps):
            index = torch.randperm(len(table), generator=generator)[:batch_size]
            z1, z2 = parameters[index].unbind(1)
            loss = criterion(z1, z2, index, encode=lambda i, v: parameters[i, v], generator=generator)
            total = total + torch.autograd.grad(loss, parameters)[0]
        return (total / steps).flatten().double()

    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)  # it goes on in the second run with other numbers
        first, second = mean_gradient(generator), mean_gradient(generator)
        squares.append(((first - exact) @ (second - exact) / (exact @ exact)).item())
    return of_seeds(squares)
