"""The numbers a cell may carry: names, how they are labelled, and in one line each what they mean. Plain data, no
torch.

How they are computed is in :mod:`scoresde.bench.evaluate`; the estimators and their intervals in
:mod:`scoresde.metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One metric, as people read it.

    ``same_seed`` marks those that compare sample by sample with the converged solution from the same noise: they rank
    deterministic solvers, and mean nothing for stochastic ones. ``axis`` is the label with its unit. ``best`` is the
    value of perfect samples where that is not the smallest one: the nearer to it the better.
    """

    label: str
    axis: str
    note: str
    same_seed: bool = False
    best: float | None = None

    def loss(self, value: float) -> float:
        """The value as something to make small."""
        return value if self.best is None else abs(value - self.best)


MEASURES: dict[str, Measure] = {
    "rmse_reference": Measure(
        "Same-seed error",
        "RMSE to converged (data units)",
        "Root mean square difference, sample by sample, from the converged probability-flow solution that starts at "
        "the same noise. The main axis for deterministic solvers: it sees only the solver's error, not the network's.",
        same_seed=True,
    ),
    "frechet_reference": Measure(
        "Fréchet to converged",
        "Fréchet distance to converged samples",
        "Squared Fréchet distance (2-Wasserstein of fitted Gaussians) to the converged samples, without its "
        "small-sample bias (jackknife); for images in standardised features of a small classifier.",
    ),
    "frechet_exact": Measure(
        "Fréchet, closed form",
        "Fréchet distance (closed form)",
        "The exact squared 2-Wasserstein distance between the law of the solver's samples and the Gaussian target: a "
        "formula, no sampling.",
    ),
    "frechet_data": Measure(
        "Fréchet to data",
        "Fréchet distance to real data",
        "Squared Fréchet distance to data that the network never saw, or to the target's moments where they are known. "
        "It mixes the network's error with the solver's and can misrank solvers; inside the grey band samples are as "
        "close to data as one part of the data is to another.",
    ),
    "energy_data": Measure(
        "Energy distance to data",
        "energy distance to data",
        "Unbiased estimate of the energy distance to one set of data (zero only for equal distributions); noise can "
        "take it below zero.",
    ),
    "kid_data": Measure(
        "KID to data",
        "kernel distance (KID) to data",
        "Unbiased squared maximum mean discrepancy to one set of data, with a cubic kernel in features; noise can take "
        "it below zero.",
    ),
    "sliced_w2_data": Measure(
        "Sliced W2 to data",
        "squared sliced W2 to data",
        "Mean over random directions of the squared one-dimensional 2-Wasserstein distance to one set of data, without "
        "its small-sample bias (jackknife); noise can take it below zero.",
    ),
    "w2_data": Measure(
        "W2 to data",
        "squared W2 to data",
        "Squared 2-Wasserstein distance between the samples and as many data, by an optimal assignment. In many "
        "dimensions it is far above zero even for data against data: read it against its band.",
    ),
    "nll_excess": Measure(
        "Excess negative log-likelihood",
        "excess nats under the target",
        "Mean of minus the log-density of the target at the samples, less the target's entropy: zero for perfect "
        "samples; below it they are too near the modes, above it too far out.",
        best=0.0,
    ),
    "mode_weights": Measure(
        "Weights of the modes",
        "squared error of the weights of modes",
        "Sum over the target's modes of the squared difference between the share of samples nearest to it and its true "
        "weight, without its small-sample bias; noise can take it below zero.",
    ),
    "precision": Measure(
        "Precision",
        "precision",
        "Share of samples that lie within reach (the distance to its fifth neighbour) of some of the data.",
        best=1.0,
    ),
    "recall": Measure(
        "Recall",
        "recall",
        "Share of the data that lie within reach (the distance to its fifth neighbour) of some sample.",
        best=1.0,
    ),
    "density": Measure(
        "Density",
        "density",
        "How many data reach a sample on average, over five: precision that single outliers of the data cannot lift.",
        best=1.0,
    ),
    "coverage": Measure(
        "Coverage",
        "coverage",
        "Share of the data with a sample within reach: recall that outlying samples cannot lift.",
        best=1.0,
    ),
    "c2st": Measure(
        "Classifier two-sample test",
        "accuracy of telling samples from data",
        "Held-out accuracy of a classifier that is to tell samples from data: one half if it cannot.",
        best=0.5,
    ),
    "accuracy": Measure(
        "Accuracy",
        "share recognised as the class asked for",
        "Share of samples that a classifier takes for the class that was asked for.",
        best=1.0,
    ),
}

# The metric that compares all solvers of a panel as distributions: the first of these that it has.
SAMPLE_MEASURES = ("frechet_exact", "frechet_data", "energy_data", "sliced_w2_data")
