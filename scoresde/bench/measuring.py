"""How each metric of the benchmark is computed from the samples of a cell.

To add a metric: one function of the :class:`Evidence` and one line in :data:`RULES`, and what people read about it in
:data:`scoresde.bench.measures.MEASURES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from scoresde import metrics
from scoresde.bench.problems import Problem
from scoresde.bench.samplers import Prepared
from scoresde.errors import choose
from scoresde.metrics import Estimate
from scoresde.targets import Gaussian, GaussianMixture

Plain = dict[str, Any]  # value, low, high, se, n, left
PROJECTIONS = 16  # of the sliced distance
PAIRED = 400  # rows of the exact transport distance, whose time grows with their cube
SPLITS, FEW_SPLITS = 20, 6  # of real data, for a floor band
SLOW = ("w2_data", "c2st")  # metrics that take the second number of splits


@dataclass(frozen=True)
class Evidence:
    """What a metric may look at.

    Attributes:
        problem: the target.
        samples: (N, *shape), float64 on the CPU; of a large cell the first ones.
        converged: the converged solution of the first of them, likewise; None where there is none.
        prepared: the sampler.
        prior_std: standard deviation of the noise that it began with.
        features: of :attr:`samples`, as rows.
        moments: of the features of all samples of the cell.
    """

    problem: Problem
    samples: Tensor
    converged: Tensor | None
    prepared: Prepared
    prior_std: float
    features: Tensor
    moments: metrics.BlockMoments

    @cached_property
    def closed_form(self) -> dict[str, float]:
        """What is known without a sample."""
        plan = self.prepared.plan
        return {} if plan is None else self.problem.closed_form(plan, self.prior_std)

    @cached_property
    def support(self) -> metrics.PRDC:
        """Precision, recall, density and coverage of the features."""
        return metrics.prdc(self.features, self.problem.data_features)


Rule = Callable[[Evidence], Estimate | None]  # None where it does not apply to this sampler


def _known(problem: Problem) -> metrics.FrechetStats | None:
    exact = problem.exact_moments()
    return None if exact is None else metrics.FrechetStats.exact(*exact)


def _rmse(seen: Evidence) -> Estimate | None:
    if seen.prepared.stochastic or seen.converged is None:
        return None
    return metrics.rmse(seen.samples[: len(seen.converged)], seen.converged)


def _frechet_data(seen: Evidence) -> Estimate | None:
    moments = _known(seen.problem)
    if moments is None and not len(seen.problem.data):
        return None
    return metrics.frechet(seen.moments, seen.problem.data_features if moments is None else moments)


def _frechet_reference(seen: Evidence) -> Estimate | None:
    if seen.converged is None:
        return None
    return metrics.frechet(seen.features[: len(seen.converged)], seen.problem.features(seen.converged))


def _frechet_exact(seen: Evidence) -> Estimate | None:
    value = seen.closed_form.get("frechet_exact")
    return None if value is None else Estimate(value, value, value, 0.0, len(seen.samples))


def _accuracy(seen: Evidence) -> Estimate | None:
    asked, got = seen.problem.classes_of(len(seen.samples)), seen.problem.recognise(seen.samples)
    return None if asked is None or got is None else metrics.proportion(got == asked)


def _likelihood(seen: Evidence) -> Estimate | None:
    target = seen.problem.target
    return None if target is None or target.singular else metrics.negative_log_likelihood(seen.samples, target)


def _modes(seen: Evidence) -> Estimate | None:
    target = seen.problem.target
    return metrics.mode_weights(seen.samples, target).error if isinstance(target, GaussianMixture) else None


def _sliced(x: Tensor, y: Tensor) -> Estimate:
    return metrics.sliced_wasserstein(x, y, projections=PROJECTIONS)


def _w2(x: Tensor, y: Tensor) -> Estimate:
    return metrics.exact_wasserstein(x, y, most=PAIRED)


@dataclass(frozen=True)
class OfData:
    """A metric that compares samples with data, or their features with those of the data."""

    rule: Callable[[Tensor, Tensor], Estimate]
    features: bool = True

    def __call__(self, seen: Evidence) -> Estimate | None:
        """Of a cell; None where there are no data."""
        problem = seen.problem
        if not len(problem.data):
            return None
        return self.rule(*((seen.features, problem.data_features) if self.features else (seen.samples, problem.data)))


# Those that compare samples with data; real data against real data gives their floor bands.
OF_DATA: dict[str, OfData] = {
    "kid_data": OfData(metrics.kid),
    "energy_data": OfData(metrics.energy_distance, features=False),
    "sliced_w2_data": OfData(_sliced, features=False),
    "w2_data": OfData(_w2, features=False),
    "c2st": OfData(metrics.c2st),
}

RULES: dict[str, Rule] = {
    "rmse_reference": _rmse,
    "frechet_reference": _frechet_reference,
    "frechet_exact": _frechet_exact,
    "frechet_data": _frechet_data,
    "nll_excess": _likelihood,
    "mode_weights": _modes,
    "accuracy": _accuracy,
    **OF_DATA,
    "precision": lambda seen: seen.support.precision,
    "recall": lambda seen: seen.support.recall,
    "density": lambda seen: seen.support.density,
    "coverage": lambda seen: seen.support.coverage,
}


def check_metric(name: str, problem: Problem, target: str) -> None:
    """Raise ValueError if the metric does not exist, or means nothing on this target."""
    choose(name, RULES, "metric")
    data, density = len(problem.data) > 0, problem.target is not None and not problem.target.singular
    needs = {
        "frechet_exact": (isinstance(problem.target, Gaussian), "a Gaussian target"),
        "frechet_data": (data or problem.exact_moments() is not None, "data or their moments"),
        "nll_excess": (density, "a target with a density"),
        "mode_weights": (isinstance(problem.target, GaussianMixture), "a mixture of Gaussians"),
        "accuracy": (bool(problem.classes), "a target with classes and a classifier"),
        **dict.fromkeys((*OF_DATA, "precision", "recall", "density", "coverage"), (data, "data")),
    }
    met, what = needs.get(name, (True, ""))
    if not met:
        raise ValueError(f"metric {name!r} needs {what}, which target {target!r} is not or has not")


def measure(seen: Evidence, names: Iterable[str]) -> dict[str, Plain]:
    """These metrics, those that apply, as plain data.

    Raises ValueError if one is not finite.
    """
    found = {name: RULES[name](seen) for name in names}
    return {name: plain(name, estimate) for name, estimate in found.items() if estimate is not None}


def measure_classes(seen: Evidence) -> dict[str, dict[str, Plain]]:
    """For each class of the target: the share of samples that is recognised, and the energy distance of their features
    to those of real data of that class.
    """
    problem = seen.problem
    asked, real = problem.classes_of(len(seen.samples)), problem.data_classes
    if asked is None:
        return {}
    got = problem.recognise(seen.samples)
    found: dict[str, dict[str, Plain]] = {}
    for number, name in enumerate(problem.classes):
        here = asked == number
        found[name] = (
            {}
            if got is None or int(here.sum()) < 2
            else {"accuracy": plain("accuracy", metrics.proportion(got[here] == number))}
        )
        if real is not None:
            ours, theirs = seen.features[here], problem.data_features[real == number]
            blocks = min(metrics.BLOCKS, len(ours) // 2, len(theirs) // 2)
            if blocks > 1:
                distance = metrics.energy_distance(ours, theirs, blocks=blocks)
                found[name]["energy_data"] = plain("energy_data", distance)
    return found


def floors(problem: Problem, names: Iterable[str], count: int, seeds: int) -> dict[str, Plain]:
    """The bands in which these metrics fall for real data itself, in sets as large as the samples' (or half of all
    data); none without data.
    """
    real = torch.cat([problem.data, problem.other_data])
    if not len(real):
        return {}
    known, features = _known(problem), problem.features(real)

    def frechet(x: Tensor, y: Tensor) -> Estimate:
        return metrics.frechet(x, y if known is None else known)

    rules = {**OF_DATA, "frechet_data": OfData(frechet)}
    found = {}
    for name in names:
        if name in rules:
            size = min(count * (seeds if name in problem.pooled else 1), len(real) // 2)
            part = features if rules[name].features else real
            splits = FEW_SPLITS if name in SLOW else SPLITS
            found[name] = plain(name, metrics.floor_band(part, rules[name].rule, size=size, splits=splits))
    return found


def measure_pooled(problem: Problem, features: Tensor, names: Iterable[str]) -> dict[str, Plain]:
    """The metrics that need the samples of all seeds, from their features (N, d)."""
    known = _known(problem)
    data = problem.data_features if known is None else known
    return {name: plain(name, metrics.frechet(features, data)) for name in names}


def plain(name: str, estimate: Estimate) -> Plain:
    """An estimate as plain data. Raises ValueError if a number of it is not finite."""
    found = asdict(estimate)
    left = [float(value) for value in found.pop("left", ())]
    numbers = {key: float(value) for key, value in found.items()}
    if not all(math.isfinite(value) for value in (*numbers.values(), *left)):
        raise ValueError(f"{name} is not finite: {numbers}")
    return {**numbers, "left": left}
