"""Do the intervals hold the truth as often as they say? Repeated sets from distributions whose distances are known.

    python -m benchmarks.coverage             # every question; writes docs/measured/coverage-*.json and coverage-*.md
    python -m benchmarks.coverage mixture     # one of them; the others' results stay

A row is a metric at a number of rows; of its 95 % intervals in 200 repeats, "covered" is the share that holds the
truth. Samples are true draws ("same"), or true draws moved to 1.1 X + 0.1 ("moved"); data are other draws. Where no
formula gives the truth, or it depends on the number of rows, it is the mean over the repeats. Public API only. About
seven minutes on one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

import scoresde as ss
from benchmarks import truths
from benchmarks.measured import answer, markdown
from benchmarks.truths import Law
from scoresde import metrics
from scoresde.metrics import Estimate, FrechetStats, difference
from scoresde.noise import normal
from scoresde.targets import Gaussian, GaussianMixture
from scoresde.theory import Moments, gaussian_moments

Exact = Gaussian | GaussianMixture
Rows = list[dict[str, Any]]
Found = dict[str, Estimate]
Truths = dict[str, tuple[float, str]]  # value, and how it is known

REPEATS, SIZES = 200, (200, 400, 1000)
CASES = {"same": (1.0, 0.0), "moved": (1.1, 0.1)}
PROJECTIONS, NEIGHBOUR = 16, 5
TRAINING, MANY = 300, 200_000  # rows that nearest distances go to, and draws for their mean
FORMULA, DRAWS, REPEATED = "formula", f"{MANY} draws", "mean of the repeats"


# -- what is measured -------------------------------------------------------------------------------------------------
def measure(target: Exact, train: Tensor, clean: Tensor, x: Tensor, y: Tensor, seed: int) -> Found:
    """Every metric of samples x against data y, the slow ones of few rows only; `clean` is right for x's noise."""
    found = {
        "frechet": metrics.frechet(x, y),
        "frechet to known statistics": metrics.frechet(x, FrechetStats.exact(*target.moments())),
        "kid": metrics.kid(x, y),
        "energy_distance": metrics.energy_distance(x, y),
        "sliced_wasserstein": metrics.sliced_wasserstein(x, y, projections=PROJECTIONS, seed=seed),
        "negative_log_likelihood": metrics.negative_log_likelihood(x, target, seed=2**31 + seed),
        "memorisation_ratio": metrics.memorisation_ratio(x, train, y),
        "rmse": metrics.rmse(x, clean),
    }
    if isinstance(target, GaussianMixture):
        modes = metrics.mode_weights(x, target)
        found |= {"mode_weights: error": modes.error, "mode_weights: first weight": modes.weights[0]}
    if len(x) < SIZES[-1]:
        found["c2st"] = metrics.c2st(x, y)
    if len(x) == SIZES[0]:
        found |= {f"prdc: {name}": e for name, e in metrics.prdc(x, y, k=NEIGHBOUR)._asdict().items()}
        found["exact_wasserstein"] = metrics.exact_wasserstein(x, y)
    return found


# -- what is true -----------------------------------------------------------------------------------------------------
def known(target: Exact, samples: Law, transport: float, same_seed: float) -> dict[str, float]:
    """What is known of samples with this law, at any number of rows.

    transport: squared sliced distance; same_seed: mean squared difference of a component from the clean samples.
    """
    data = Law.of(target)
    found = {
        "frechet": truths.frechet(samples, data),
        "frechet to known statistics": truths.frechet(samples, data),
        "kid": truths.kid(samples, data),
        "energy_distance": truths.energy_distance(samples, data),
        "sliced_wasserstein": transport,
        "rmse": math.sqrt(same_seed),
    }
    if isinstance(target, Gaussian):
        return found | {"negative_log_likelihood": truths.excess_nll(samples, data)}
    ours, usual = (truths.mean_in_plane(law, lambda v: -target.log_prob(v, 1.0, 0.0)) for law in (samples, data))
    occupied = truths.mean_in_plane(samples, target.responsibilities)
    return found | {
        "negative_log_likelihood": float(ours - usual),
        "mode_weights: error": float((occupied - target.weights).square().sum()),
        "mode_weights: first weight": float(occupied[0]),
    }


def of_equal_laws(n: int) -> dict[str, float]:
    """What only equal laws are known to give, of n rows each: Naeem et al. 2020, arXiv:2002.09797, eq. 9."""
    missed = math.prod((n - i) / (2 * n - i) for i in range(1, 1 + NEIGHBOUR))
    return {"prdc: density": 1.0, "prdc: coverage": 1 - missed, "memorisation_ratio": 1.0, "c2st": 0.5}


# -- the questions ----------------------------------------------------------------------------------------------------
def study(target: Exact) -> Rows:
    """All metrics, sizes and cases of one target."""
    rows, train, law = [], target.sample(TRAINING, seed=99), Law.of(target)
    for case, (scale, shift) in CASES.items():
        cost = law.cost_of_moving(scale, shift) / law.dim
        formulas = known(target, law.moved(scale, shift), cost, cost)
        draws = (scale * target.sample(MANY, seed=77) + shift, target.sample(MANY, seed=78))
        ratio = truths.mean_nearest(draws[0], train) / truths.mean_nearest(draws[1], train)
        for n in SIZES:
            found = []
            for repeat in range(REPEATS):
                clean, y = (target.sample(n, seed=1000 + 2 * repeat + side) for side in range(2))
                found.append(measure(target, train, clean, scale * clean + shift, y, repeat))
            special = of_equal_laws(n) if case == "same" else {}
            truth = {name: (value, FORMULA) for name, value in (formulas | special).items()}
            rows += judged(found, {"memorisation_ratio": (ratio, DRAWS)} | truth, samples=case, n=n)
    return rows


def gaussian8() -> Rows:
    """A Gaussian in 8 dimensions, variances from 0.01 to 1."""
    return study(Gaussian.log_spaced(8, 1e-2, 1.0))


def gaussian64() -> Rows:
    """A Gaussian in 64 dimensions, variances from 0.01 to 1."""
    return study(Gaussian.log_spaced(64, 1e-2, 1.0))


def mixture() -> Rows:
    """Five Gaussians in the plane."""
    return study(GaussianMixture.five())


def solvers() -> Rows:
    """Paired differences of two solvers, DDIM less DPM-Solver++(2M), at 8 calls from the same noise, on a Gaussian."""
    sde = ss.EDM()
    target = Gaussian(torch.linspace(-1, 1, 8), torch.logspace(-2, 0, 8))
    grid = ss.get_grid("karras", sde, steps=8)
    plans = [ss.make_plan(ss.get_solver(name), sde, grid) for name in ("ddim", "dpmpp-2m")]
    begin, prior = plans[0].begin, plans[0].begin.sigma
    start = Moments(torch.zeros(8, dtype=torch.float64), torch.full((8,), prior**2, dtype=torch.float64))
    directions = torch.nn.functional.normalize(normal((MANY, 8), 5, dtype=torch.float64))

    def flow(x_T: Tensor) -> Tensor:
        return target.flow(x_T, begin, sde.point(0.0))

    formulas = []
    for plan in plans:
        moments = gaussian_moments(plan, target.eigenvalues, target.mean, start=start)
        law = Law.gaussian(moments.mean, moments.variance.diag())
        # Solver and flow act on each component alone: an offset, and a slope times the noise.
        ends = start.variance.sqrt() * torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        offset, other_end = run(plan, target, sde, ends) - flow(ends)
        same_seed = float((offset.square() + (other_end - offset).square()).mean())
        formulas.append(known(target, law, truths.sliced_wasserstein(law, Law.of(target), directions), same_seed))
    truth = {name: (value - formulas[1][name], FORMULA) for name, value in formulas[0].items()}
    rows, train = [], target.sample(TRAINING, seed=99)
    for n in SIZES:
        found = []
        for repeat in range(REPEATS):
            x_T = prior * normal((n, 8), repeat, dtype=torch.float64)
            y, clean = target.sample(n, seed=1000 + repeat), flow(x_T)
            one, other = (measure(target, train, clean, run(plan, target, sde, x_T), y, repeat) for plan in plans)
            found.append({name: difference(one[name], other[name]) for name in one})
        rows += judged(found, truth, samples="difference", n=n)
    return rows


def run(plan: ss.Plan, target: Gaussian, sde: ss.SDE, x_T: Tensor) -> Tensor:
    """The plan's samples from this noise."""
    denoiser, going = target.denoiser(sde), plan.start(x_T, seed=0)
    while not going.done:
        going.tell(denoiser(going.x, going.t))
    return going.sample


def judged(found: list[Found], truth: Truths, **facts: Any) -> Rows:
    """A row for each metric: how many of its intervals hold the truth."""
    rows, count = [], len(found)
    for name in found[0]:
        estimates = [one[name] for one in found]
        values = [e.value for e in estimates]
        value, by = truth.get(name, (fmean(values), REPEATED))
        spread, slack = stdev(values), 1e-12  # of an estimate that is the truth itself, but for rounding
        share = fmean(e.low - slack <= value <= e.high + slack for e in estimates)
        rows.append(
            {
                "metric": name,
                **facts,
                "truth": value,
                "known by": by,
                "covered": share,
                "binomial error": math.sqrt(0.95 * 0.05 / count),
                "leaves out 0": fmean(not e.low <= 0 <= e.high for e in estimates),
                "bias / spread": (fmean(values) - value) / spread if spread else 0.0,
                "claimed error / spread": math.sqrt(fmean(e.se**2 for e in estimates)) / spread if spread else 1.0,
                "repeats": count,
            }
        )
    return rows


QUESTIONS: dict[str, Callable[[], Rows]] = {
    "gaussian8": gaussian8,
    "gaussian64": gaussian64,
    "mixture": mixture,
    "solvers": solvers,
}


def table(rows: Rows) -> str:
    """A Markdown table: a line for each metric and case, what is covered at each number of rows."""
    lines = [["metric", "samples", "truth known by", *(f"n = {n}" for n in SIZES), "claimed error / spread"]]
    cells: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["metric"], row["samples"]), {})[row["n"]] = row
    for (metric, samples), sizes in sorted(cells.items()):
        ratios = [row["claimed error / spread"] for row in sizes.values()]
        covered = [f"{sizes[n]['covered']:.1%}" if n in sizes else "" for n in SIZES]
        by = next(iter(sizes.values()))["known by"]
        lines.append([metric, samples, by, *covered, f"{min(ratios):.2f} to {max(ratios):.2f}"])
    return markdown(lines)


if __name__ == "__main__":
    answer("coverage", __doc__, QUESTIONS, table)
