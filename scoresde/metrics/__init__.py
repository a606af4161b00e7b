"""Quality of samples, always with an interval.

Inputs are (n, ...) floating-point tensors of samples or of features; each row is flattened, and everything is computed
in float64 on the device of the input, in bounded memory. Rows must be independent draws.

* `rmse`: distance to the converged solution from the same noise: the main measure of a deterministic solver.
* `frechet`, `kid`, `energy_distance`, `sliced_wasserstein`: distances between distributions.
* `floor_band`: what a distance shows between two sets of real data: below that, differences mean nothing.
* `memorisation_ratio`: whether samples are closer to the training data than unseen data are.

* `difference`: of two estimates from paired rows, which is known better than either.

Every result is an `Estimate`; every standard error comes from one delete-one-block jackknife (`jackknife`). Resampling
with replacement is not offered: repeated rows bias a Frechet distance so much that its interval misses the truth.
"""

from scoresde.metrics.estimate import BLOCKS, Estimate, difference, jackknife
from scoresde.metrics.frechet import FrechetStats, frechet, frechet_distance, frechet_stats
from scoresde.metrics.neighbours import memorisation_ratio
from scoresde.metrics.paired import floor_band, rmse
from scoresde.metrics.pairwise import energy_distance, kid
from scoresde.metrics.sliced import sliced_wasserstein

__all__ = [
    "BLOCKS",
    "Estimate",
    "FrechetStats",
    "difference",
    "energy_distance",
    "floor_band",
    "frechet",
    "frechet_distance",
    "frechet_stats",
    "jackknife",
    "kid",
    "memorisation_ratio",
    "rmse",
    "sliced_wasserstein",
]
