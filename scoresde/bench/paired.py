"""Numbers over seeds with their intervals, and the paired comparison of two solvers from the same noise.

Two solvers that start at the same noise err on the same samples, so their difference is often known far better than
either number: a difference is called one only when its own interval leaves zero out, not when two intervals part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scoresde.metrics import Estimate, difference
from scoresde.metrics.estimate import LEVEL, student_quantile

Plain = Mapping[str, Any]  # an estimate as a row holds it: value, low, high, se, n and, from a jackknife, left
MANY = 1e9  # degrees of freedom at which Student's t is the normal distribution
ROUNDING = 1e-9  # relative; formulas that agree to this are equal


@dataclass(frozen=True)
class Summary:
    """A metric, or a difference of two, over seeds.

    value: the mean over ``seeds`` seeds. low, high: its 95 % interval. se: its standard error, of ``degrees`` degrees
    of freedom (infinite where they are not known; the interval is then a normal one).
    """

    value: float
    low: float
    high: float
    se: float
    seeds: int
    degrees: float = math.inf

    @property
    def p(self) -> float:
        """Two-sided p-value of "this is zero" (Student's t); 0 or 1 where there is no error."""
        from scipy.special import stdtr

        if self.se == 0:
            return 0.0 if self.value else 1.0
        return float(2 * stdtr(min(self.degrees, MANY), -abs(self.value) / self.se))


def over_seeds(estimates: Iterable[Plain]) -> Summary:
    """Mean over seeds with the larger of two standard errors: the seeds' own combined, and that of their spread.

    The samples of different seeds are independent, so both estimate the same thing when each seed's interval is right;
    the larger guards against one that is too narrow. The degrees of freedom are those of the seeds' own (Satterthwaite
    1946), because the spread of a few seeds only ever widens the interval.

    Raises ValueError without any estimate.
    """
    items = list(estimates)
    if not items:
        raise ValueError("estimates must hold at least one, got none")
    count, values, errors = len(items), [item["value"] for item in items], [item["se"] for item in items]
    mean = math.fsum(values) / count
    within = math.sqrt(math.fsum(se**2 for se in errors)) / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count * (count - 1))) if count > 1 else 0.0
    degrees = _degrees(errors, [len(item.get("left", ())) - 1 for item in items])
    if count == 1:  # its own interval, which need not be symmetric
        return Summary(mean, items[0]["low"], items[0]["high"], within, 1, degrees)
    if within == 0 and spread <= ROUNDING * abs(mean):  # a formula, equal for all seeds but for rounding
        return Summary(mean, mean, mean, 0.0, count)
    se = max(within, spread)
    degrees = degrees if within else count - 1
    reach = student_quantile(0.5 + LEVEL / 2, math.floor(min(degrees, MANY))) * se
    return Summary(mean, mean - reach, mean + reach, se, count, degrees)


def _degrees(errors: Sequence[float], each: Sequence[int]) -> float:
    """Degrees of freedom of the sum of independent squared errors; infinite where one seed kept no jackknife."""
    if not all(errors) or min(each) < 1:
        return math.inf
    return sum(se**2 for se in errors) ** 2 / sum(se**4 / degrees for se, degrees in zip(errors, each, strict=True))


def paired(rows_a: Iterable[Mapping[str, Any]], rows_b: Iterable[Mapping[str, Any]], measure: str) -> Summary | None:
    """``a - b`` of one metric of two groups of cells, over the seeds that both have.

    Args:
        rows_a: finished rows of one solver at one budget (in any order, one for each seed), as a results folder holds.
        rows_b: of the other solver, budget, version or machine, from the same noise.
        measure: the name of the metric.

    Returns:
        The difference with its 95 % interval; None where no seed has both numbers with the jackknife's values behind
        them (older files).
    """
    of_a, of_b = (
        {row["config"]["seed"]: row["metrics"][measure] for row in rows if measure in row.get("metrics", {})}
        for rows in (rows_a, rows_b)
    )
    return paired_by_seed(of_a, of_b)


def paired_by_seed(of_a: Mapping[Any, Plain], of_b: Mapping[Any, Plain]) -> Summary | None:
    """As :func:`paired`, of estimates by seed."""
    differences = []
    for seed in of_a.keys() & of_b.keys():
        a, b = _estimate(of_a[seed]), _estimate(of_b[seed])
        if not _pair(a, b):
            return None
        found = difference(a, b)
        equal = found.se == 0 and abs(found.value) <= ROUNDING * max(abs(a.value), abs(b.value))
        value = 0.0 if equal else found.value
        differences.append({"value": value, "low": found.low, "high": found.high, "se": found.se, "left": found.left})
    return over_seeds(differences) if differences else None


def _estimate(plain: Plain) -> Estimate:
    return Estimate(plain["value"], plain["low"], plain["high"], plain["se"], plain["n"], tuple(plain.get("left", ())))


def _pair(a: Estimate, b: Estimate) -> bool:
    """Whether both know which part of their error they share: leave-one-out values of the same rows, or no error."""
    sampled = [e for e in (a, b) if e.left or e.se or e.low != e.high]
    return len({(e.n, len(e.left)) for e in sampled}) <= 1 and all(e.left for e in sampled)


def losses(by_seed: Mapping[Any, Plain], best: float) -> dict[Any, Plain]:
    """Estimates by seed of a number whose ``best`` value is not the smallest one, as something to make small.

    That is the distance from it, on the side where their mean is: the leave-one-out values stay a jackknife of it.
    """
    sign = 1 if math.fsum(plain["value"] - best for plain in by_seed.values()) >= 0 else -1

    def turned(plain: Plain) -> Plain:
        low, high = sorted(sign * (plain[end] - best) for end in ("low", "high"))
        left = [sign * (value - best) for value in plain.get("left", ())]
        return {**plain, "value": sign * (plain["value"] - best), "low": low, "high": high, "left": left}

    return {seed: turned(plain) for seed, plain in by_seed.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being many (Holm 1979, Scand. J. Statist. 6(2)), in the order given.

    Calling those below 0.05 differences makes even one false call with a probability of at most 5 %, however the
    comparisons depend on each other.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
