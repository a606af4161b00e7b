"""How each metric of the benchmark is computed from the samples of a cell.

To add a metric: one function of the :class:`Evidence` and one line in :data:`RULES`, and what people read about it in
:data:`scoresde.bench.measures.MEASURES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from scoresde import metrics
from scoresde.bench.problems import Problem
from scoresde.bench.samplers import Prepared
from scoresde.metrics import Estimate

Plain = dict[str, Any]  # value, low, high, se, n, left
PROJECTIONS = 16  # of the sliced distance


@dataclass(frozen=True)
class Evidence:
    """What a metric may look at.

    Attributes:
        problem: the target.
        samples: (N, *shape), float64 on the CPU; of a large cell the first ones.
        converged: the converged solution of the first of them, likewise; None where there is none.
        prepared: the sampler.
        prior_std: standard deviation of the noise that it began with.
        all_features: features of all samples of the cell, as rows.
    """

    problem: Problem
    samples: Tensor
    converged: Tensor | None
    prepared: Prepared
    prior_std: float
    all_features: Tensor

    @cached_property
    def features(self) -> Tensor:
        """Of :attr:`samples`."""
        return self.all_features[: len(self.samples)]

    @cached_property
    def closed_form(self) -> dict[str, float]:
        """What is known without a sample."""
        plan = self.prepared.plan
        return {} if plan is None else self.problem.closed_form(plan, self.prior_std)


Rule = Callable[[Evidence], Estimate | None]  # None where it does not apply to this sampler


def _data(problem: Problem) -> Tensor | metrics.FrechetStats:
    exact = problem.exact_moments()
    return problem.data_features if exact is None else metrics.FrechetStats.exact(*exact)


def _rmse(seen: Evidence) -> Estimate | None:
    if seen.prepared.stochastic or seen.converged is None:
        return None
    return metrics.rmse(seen.samples[: len(seen.converged)], seen.converged)


def _frechet_reference(seen: Evidence) -> Estimate | None:
    if seen.converged is None:
        return None
    return metrics.frechet(seen.features[: len(seen.converged)], seen.problem.features(seen.converged))


def _frechet_exact(seen: Evidence) -> Estimate | None:
    value = seen.closed_form.get("frechet_exact")
    return None if value is None else Estimate(value, value, value, 0.0, len(seen.samples))


def _accuracy(seen: Evidence) -> Estimate | None:
    asked, got = seen.problem.classes_of(len(seen.samples)), seen.problem.recognise(seen.samples)
    return None if asked is None or got is None else _share(got == asked)


def _share(right: Tensor) -> Estimate:
    """The share of true rows, with Wilson's 95 % interval (Wilson 1927, J. Am. Stat. Assoc. 22(158))."""
    n, p, z = len(right), float(right.double().mean()), 1.959963984540054
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * reach) / (1 + z * z / n) for sign in (-1, 1))
    return Estimate(p, low, high, math.sqrt(p * (1 - p) / n), n)


RULES: dict[str, Rule] = {
    "rmse_reference": _rmse,
    "frechet_reference": _frechet_reference,
    "frechet_exact": _frechet_exact,
    "frechet_data": lambda seen: metrics.frechet(seen.all_features, _data(seen.problem)),
    "kid_data": lambda seen: metrics.kid(seen.features, seen.problem.data_features),
    "energy_data": lambda seen: metrics.energy_distance(seen.samples, seen.problem.data),
    "sliced_w2_data": lambda seen: metrics.sliced_wasserstein(seen.samples, seen.problem.data, projections=PROJECTIONS),
    "accuracy": _accuracy,
}

# Of two sets of real data, for the floor bands: the metrics that compare samples with data.
FLOORS: dict[str, tuple[bool, Callable[[Problem, Tensor, Tensor], Estimate]]] = {  # (of features, metric)
    "frechet_data": (True, lambda problem, x, y: metrics.frechet(x, _data_or(problem, y))),
    "kid_data": (True, lambda problem, x, y: metrics.kid(x, y)),
    "energy_data": (False, lambda problem, x, y: metrics.energy_distance(x, y)),
    "sliced_w2_data": (False, lambda problem, x, y: metrics.sliced_wasserstein(x, y, projections=PROJECTIONS)),
}


def _data_or(problem: Problem, other: Tensor) -> Tensor | metrics.FrechetStats:
    exact = problem.exact_moments()
    return other if exact is None else metrics.FrechetStats.exact(*exact)


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
        found[name] = {} if got is None else {"accuracy": plain("accuracy", _share(got[here] == number))}
        if real is not None:
            ours, theirs = seen.features[here], problem.data_features[real == number]
            blocks = min(metrics.BLOCKS, len(ours) // 2, len(theirs) // 2)
            if blocks > 1:
                distance = metrics.energy_distance(ours, theirs, blocks=blocks)
                found[name]["energy_data"] = plain("energy_data", distance)
    return found


def floors(problem: Problem, names: Iterable[str], count: int, seeds: int) -> dict[str, Plain]:
    """The bands in which these metrics fall for real data itself, in sets as large as the samples' (or half of all
    data).
    """
    real = torch.cat([problem.data, problem.other_data])
    features = problem.features(real)
    found = {}
    for name in names:
        if name in FLOORS:
            of_features, rule = FLOORS[name]
            size = min(count * (seeds if name in problem.pooled else 1), len(real) // 2)
            band = metrics.floor_band(features if of_features else real, partial(rule, problem), size=size)
            found[name] = plain(name, band)
    return found


def measure_pooled(problem: Problem, features: Tensor, names: Iterable[str]) -> dict[str, Plain]:
    """The metrics that need the samples of all seeds, from their features (N, d)."""
    return {name: plain(name, metrics.frechet(features, _data(problem))) for name in names}


def plain(name: str, estimate: Estimate) -> Plain:
    """An estimate as plain data. Raises ValueError if a number of it is not finite."""
    found = asdict(estimate)
    left = [float(value) for value in found.pop("left", ())]
    numbers = {key: float(value) for key, value in found.items()}
    if not all(math.isfinite(value) for value in (*numbers.values(), *left)):
        raise ValueError(f"{name} is not finite: {numbers}")
    return {**numbers, "left": left}
