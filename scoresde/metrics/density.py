"""Comparisons with a target whose density is known."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from torch import Tensor

from scoresde.metrics.estimate import BLOCKS, Estimate, at_least, clipped, jackknife, leave_one_out, reaching_zero, rows
from scoresde.targets import Gaussian, GaussianMixture, Target


def negative_log_likelihood(
    samples: Tensor, target: Target, *, draws: int = 10_000, seed: int = 2**31, blocks: int = BLOCKS
) -> Estimate:
    """Excess negative log-likelihood in nats: the mean of -log p over the samples, less the target's entropy.

    The entropy is what true draws have on average, so 0 is right. Above 0, samples lie where the target is thin (too
    wide, or off its support); below 0, they crowd where it is dense (too narrow, or at some modes only). The two can
    cancel: this is a check of one number, not a divergence.

    The entropy is exact for a `Gaussian`. For others it is estimated from the target's own draws, whose error is part
    of the interval; two solvers are compared (`difference`) against the same draws, where it cancels.

    Args:
        samples: (n, ...), rows of the target's shape.
        target: with a density.
        draws: the target's own draws.
        seed: of these draws; another one than that of samples which were drawn from the target.
        blocks: jackknife blocks.

    Raises:
        TypeError, ValueError: samples of another shape or not finite, fewer than two samples or draws for each block, a
            target without density.
    """
    ours = _leave_one_out_mean_nll(samples, target, at_least(blocks, 2, "blocks"))
    if isinstance(target, Gaussian):
        # The mode is d/2 nats less surprising than a draw is on average.
        mode = target.mean[None]
        entropy = [float(-target.log_prob(mode, 1.0, 0.0)) + target.dim / 2] * len(ours)
    else:
        at_least(draws, 2 * blocks, "draws")
        entropy = _of_own_draws(target, draws, seed, blocks)
    whole, *left = (a - b for a, b in zip(ours, entropy, strict=True))
    return jackknife(whole, left, len(samples), correct=False)


@lru_cache(maxsize=4)  # of each target once, not once for every solver
def _of_own_draws(target: Target, draws: int, seed: int, blocks: int) -> list[float]:
    return _leave_one_out_mean_nll(target.sample(draws, seed), target, blocks)


def _leave_one_out_mean_nll(x: Tensor, target: Target, blocks: int) -> list[float]:
    flat = rows(x, "samples", 2 * blocks)
    return leave_one_out(-target.log_prob(flat.reshape(x.shape), 1.0, 0.0), blocks)[0].tolist()


class ModeWeights(NamedTuple):
    """What `mode_weights` finds.

    error: the sum over modes of (occupied weight - true weight)^2. weights: of each mode.
    """

    error: Estimate
    weights: tuple[Estimate, ...]


def mode_weights(samples: Tensor, target: GaussianMixture, *, blocks: int = BLOCKS) -> ModeWeights:
    """How much of the samples is in each mode of a mixture, and how far that is from the mixture's own weights.

    A sample counts for each mode with its posterior probability of coming from there, so that true draws have the true
    weights on average, also where modes overlap. The squared error is estimated without bias, from pairs of different
    samples, and may fall below 0 by chance. (The total variation of estimated weights is not offered: it is biased
    upwards by about sqrt(K / n), however good the samples are.)

    Args:
        samples: (n, ...), rows of the target's shape.
        target: the mixture.
        blocks: jackknife blocks.

    Raises:
        TypeError, ValueError: samples of another shape or not finite, fewer than two for each block.
    """
    flat = rows(samples, "samples", 2 * at_least(blocks, 2, "blocks"))
    share = target.responsibilities(flat.reshape(samples.shape))
    excess = share - target.weights
    mean, counts = leave_one_out(excess, blocks)
    size, _ = leave_one_out(excess.square().sum(1), blocks)
    error = (counts * mean.square().sum(1) - size) / (
        counts - 1
    )  # of all pairs i != j, the mean of excess_i . excess_j
    n, (whole, *left) = len(flat), error.tolist()
    of_modes = (mean + target.weights).T.tolist()
    return ModeWeights(
        reaching_zero(jackknife(whole, left, n, correct=False)),
        tuple(clipped(jackknife(w, rest, n, correct=False), 0.0, 1.0) for w, *rest in of_modes),
    )
