"""What a rule is made of: a case's options, our reading of the case, and the few ways to build a plan for it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from scoresde.adaptive import LazyPlan, LazySolver
from scoresde.denoiser import BaseDenoiser
from scoresde.plan import Plan, plan_steps
from scoresde.rows import Solver
from scoresde.sde import SDE
from tests.golden.processes import NotYet, process_of, times_at
from tests.golden.store import Case

Pairs = Sequence[tuple[float, float]]


class Options:
    """The options of a case; it knows which were read.

    Args:
        shown: names of options that need not be read: what they say shows in the recorded grid, levels or arrays, or
            has no effect on numbers in float64.
    """

    def __init__(self, case: Case, shown: Iterable[str]) -> None:
        nested = [v for v in case.options.values() if isinstance(v, dict)]  # diffusers: constructor and step
        flat = {k: v for k, v in case.options.items() if not isinstance(v, dict)}
        self._values: dict[str, Any] = {k: v for part in (flat, *nested) for k, v in part.items()}
        self._read: set[str] = set(shown)

    def get(self, name: str, default: Any) -> Any:
        """The value, or what the source takes when the option is not given."""
        self._read.add(name)
        return self._values.get(name, default)

    def need(self, name: str, default: Any, *covered: Any) -> Any:
        """As :meth:`get`, and NotYet if the value is not one of those covered."""
        value = self.get(name, default)
        if value not in covered:
            raise NotYet(f"{name}={value!r}")
        return value

    def ignore(self, *names: str) -> None:
        """Options without effect, given the others."""
        self._read |= set(names)

    def check_all_read(self) -> None:
        """NotYet if an option was given that the rule does not know."""
        if unknown := sorted(set(self._values) - self._read):
            raise NotYet(f"option {', '.join(unknown)}")


@dataclass(frozen=True)
class Reading:
    """A case in our terms.

    Attributes:
        sde: the process in whose variables the plan runs.
        plan: our plan; or a lazy one, which is driven in the same way.
        states: for each row of the recorded grid, the number of the evaluation at which our state is that row's (the
            number of evaluations: the sample; None: the initial state, not evaluated); empty where rows and evaluations
            do not match one to one.
        latents: x_init is a unit latent, to be multiplied by sigma at the start.
        quadrature: relative accuracy of coefficients that the source integrates numerically (its known_issues).
        corrections: for each evaluation, what the recorded state has on top of ours: weights of the predictions made up
            to then, newest first (a predictor-corrector method records corrected points and evaluates predicted ones).
        draws: for each noise of the plan, the number of the recorded draw; empty where they are the same.
        same_scale: our states are the recorded ones as they are, whatever alpha their levels are given.
        level_rtol: how closely our noise levels are the recorded ones.
        wrap: what the source does to every prediction, as a denoiser around the exact one.
    """

    sde: SDE
    plan: Plan
    states: tuple[int | None, ...] = field(default=())
    latents: bool = False
    quadrature: float = 0.0
    corrections: tuple[tuple[float, ...], ...] = ()
    draws: tuple[int, ...] = ()
    same_scale: bool = False
    level_rtol: float = 1e-10
    wrap: Callable[[BaseDenoiser], BaseDenoiser] | None = None

    def noise(self, case: Case) -> Callable[[int], Tensor] | None:
        """The recorded draws, by number of the plan's noise."""
        recorded, draws = case.noise, self.draws
        return (lambda k: recorded(draws[k])) if recorded and draws else recorded


def a_draw_each_step(reading: Reading) -> Reading:
    """The source draws once in each step, also in steps where our plan adds no noise."""
    evaluations, draws = 0, {}
    for row in reading.plan.rows:
        for k, _ in row.x.z:
            draws.setdefault(k, bisect_right([i or 0 for i in reading.states], evaluations) - 1)
        evaluations += row.at is not None
    return replace(reading, draws=tuple(draws[k] for k in sorted(draws)))


def on_grid(case: Case, solver: Solver, sde: SDE | None = None, rows: slice | None = None, **extra: Any) -> Reading:
    """One solver along the recorded grid."""
    sde = sde or process_of(case)
    times = times_at(sde, case.grid)
    if rows is not None:
        times = [*times[rows], times[-1]]
    return along(sde, solver, list(pairwise(times)), by_call=rows is not None, **extra)


def along(sde: SDE, solver: Solver, steps: Pairs, by_call: bool = False, **extra: Any) -> Reading:
    """One solver along explicit steps; with ``by_call`` the recorded grid has one row for each call of the model."""
    plan = plan_steps(solver, sde, steps)
    if by_call or plan.nfe == len(steps):
        return Reading(sde, plan, tuple(range(plan.nfe + 1)), **extra)
    # A step from alpha = 0 or into sigma = 0 costs one evaluation, unless the solver takes it itself.
    ends = [
        (sde.alpha(s) > 0 or solver.starts_at_zero_snr) and (sde.sigma(t) > 0 or solver.ends_at_data) for s, t in steps
    ]
    return Reading(sde, plan, running(solver.evaluations if full else 1 for full in ends), **extra)


def lazily(case: Case, solver: LazySolver, sde: SDE, times: Sequence[float], every: int, **extra: Any) -> Reading:
    """A lazy solver, whose every so many evaluations belong to one row of the recorded grid."""
    states = range(0, case.info["nfe"] + 1, every)
    plan: Any = LazyPlan(solver, sde, tuple(times))  # what a fixed plan knows beforehand, no rule asks of it
    return Reading(sde, plan, tuple(states), **extra)


def joined(sde: SDE, parts: Sequence[tuple[Solver, Pairs]], by_call: bool = False) -> Reading:
    """Several singlestep solvers, one after the other; ``by_call`` as in :func:`along`."""
    plans = [plan_steps(solver, sde, steps) for solver, steps in parts]
    assert not any(p.noises for p in plans), "noises would have to be numbered through"
    plan = Plan(tuple(row for p in plans for row in p.rows), plans[0].begin, plans[-1].end)
    states = tuple(range(plan.nfe + 1)) if by_call else running(p.nfe for p in plans)
    return Reading(sde, plan, states)


def running(counts: Iterable[int]) -> tuple[int, ...]:
    out = [0]
    for n in counts:
        out.append(out[-1] + n)
    return tuple(out)


def lower_last(order: int, steps: int | None = None) -> tuple[int, ...]:
    """Orders of the last steps; with ``steps``, of a source that lowers them from step number ``order`` on only."""
    return tuple(range(min(order - 1, order if steps is None else steps - order + 1), 0, -1))


def inner_points(sde: SDE, s: float, inner: Sequence[float], t: float) -> tuple[float | None, float | None]:
    """Fractions of the step from s to t, in half log-SNR, at which the inner times lie: r1 and r2, as far as given."""
    lam = sde.lam(s)
    at = [(sde.lam(u) - lam) / (sde.lam(t) - lam) for u in inner]
    # A source that repeats its last level has an inner point at the end, up to rounding.
    r1, r2, *_ = (*(1.0 if abs(r - 1.0) < 1e-9 else r for r in at), None, None)
    return r1, r2


def no_churn(o: Options, name: str = "s_churn") -> None:
    o.need(name, 0.0, 0.0)
    o.ignore("s_tmin", "s_tmax", "s_noise", "S_min", "S_max", "S_noise")


Rule = Callable[[Case, Options], Reading]
