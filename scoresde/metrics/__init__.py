"""Quality of samples, always with an interval.

Inputs are (n, ...) floating-point tensors of samples or of features; each row is flattened, and everything is computed
in float64 on the device of the input, in bounded memory. Rows must be independent draws.

* `rmse`: distance to the converged solution from the same noise: the main measure of a deterministic solver.
* `frechet`, `kid`, `energy_distance`, `sliced_wasserstein`, `exact_wasserstein`: distances between distributions.
* `prdc`: fidelity and diversity apart: precision, recall, density and coverage.
* `c2st`: how often a classifier can tell samples from data.
* `proportion`: the share of samples that a yes-or-no question is answered right for.
* `negative_log_likelihood`, `mode_weights`: against a target whose density, or whose modes, are known.
* `memorisation_ratio`: whether samples are closer to the training data than unseen data are.
* `floor_band`: what a distance shows between two sets of real data: below that, differences mean nothing.
* `difference`: of two estimates from paired rows, which is known better than either.
* `BlockMoments`: what `frechet` needs of a set that is too large to hold.

Every result is an `Estimate`; every standard error comes from one delete-one-block jackknife (`jackknife`). Resampling
with replacement is not offered: repeated rows bias a Frechet distance so much that its interval misses the truth. How
often the intervals hold the truth is measured by `python -m benchmarks.coverage`.
"""

from scoresde.metrics.classifier import c2st
from scoresde.metrics.density import ModeWeights, mode_weights, negative_log_likelihood
from scoresde.metrics.estimate import BLOCKS, Estimate, difference, jackknife, proportion
from scoresde.metrics.frechet import frechet, frechet_distance
from scoresde.metrics.manifold import PRDC, prdc
from scoresde.metrics.neighbours import memorisation_ratio
from scoresde.metrics.paired import floor_band, rmse
from scoresde.metrics.pairwise import energy_distance, kid
from scoresde.metrics.sliced import sliced_wasserstein
from scoresde.metrics.streaming import BlockMoments, FrechetStats, frechet_stats
from scoresde.metrics.transport import exact_wasserstein

__all__ = [
    "BLOCKS",
    "BlockMoments",
    "Estimate",
    "FrechetStats",
    "ModeWeights",
    "PRDC",
    "c2st",
    "difference",
    "energy_distance",
    "exact_wasserstein",
    "floor_band",
    "frechet",
    "frechet_distance",
    "frechet_stats",
    "jackknife",
    "kid",
    "memorisation_ratio",
    "mode_weights",
    "negative_log_likelihood",
    "prdc",
    "proportion",
    "rmse",
    "sliced_wasserstein",
]
