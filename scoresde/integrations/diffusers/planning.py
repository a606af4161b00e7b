"""From what a pipeline asks for to a plan: the solver, the grid and the rules of counting that the user chose."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, NamedTuple

from scoresde.adaptive import LazyPlan, LazySolver
from scoresde.catalogue import get_solver, split_name
from scoresde.errors import check_positive_int, choose
from scoresde.grids import NAMES as GRID_NAMES
from scoresde.grids import get_grid
from scoresde.integrations.diffusers.source import ROUNDINGS, Source
from scoresde.plan import Plan
from scoresde.rows import Solver
from scoresde.sample import fill_budget, make_plan
from scoresde.tail import tail

COUNTS = {"nfe": "nfe", "steps": "steps"}
ENDS = {"source": "source", "zero": "zero", "eps": "eps"}


@dataclass(frozen=True)
class Request:
    """What a call of ``set_timesteps`` asks for.

    Attributes:
        number: calls of the network or steps of the solver, or None if the user gave the steps themselves.
        timesteps, sigmas: the user's own steps, as the network is told them or as noise levels; () if not given.
        evenly: the pipeline passed the evenly spaced sigmas that stand for a number of steps.
        mu: the shift of flows with dynamic shifting.
    """

    number: int | None
    timesteps: tuple[float, ...] = ()
    sigmas: tuple[float, ...] = ()
    evenly: bool = False
    mu: float | None = None

    @classmethod
    def checked(cls, number: Any, timesteps: Any, sigmas: Any, mu: float | None) -> Request:
        """From the arguments of ``set_timesteps``.

        Raises:
            TypeError, ValueError: none of them, two that contradict each other, or not numbers.
        """
        if timesteps is not None and sigmas is not None:
            raise ValueError("pass timesteps or sigmas, not both")
        if hasattr(number, "__index__") and not isinstance(number, bool):
            number = operator.index(number)  # numpy's integers too
        if number is not None:
            number = check_positive_int(number, "num_inference_steps")
        own = "timesteps" if timesteps is not None else "sigmas"
        values = timesteps if timesteps is not None else sigmas
        if values is None:
            if number is None:
                raise ValueError("pass num_inference_steps, timesteps or sigmas")
            return cls(number, mu=mu)
        values = tuple(float(v) for v in values)
        if not values or not all(math.isfinite(v) and v >= 0.0 for v in values):
            raise ValueError(f"{own} must be numbers of at least 0, and at least one; got {short(values)}")
        if number is not None and number != len(values):
            raise ValueError(f"num_inference_steps={number} does not go with {len(values)} {own}: leave it out")
        count = len(values)
        if own == "sigmas" and all(math.isclose(v, 1 - i / count, rel_tol=1e-5) for i, v in enumerate(values)):
            return cls(count, evenly=True, mu=mu)
        return cls(None, timesteps=values, mu=mu) if own == "timesteps" else cls(None, sigmas=values, mu=mu)


class Planned(NamedTuple):
    """A plan, the grid that it was made on, and the times that pipelines are told of beforehand."""

    plan: Plan | LazyPlan
    nodes: tuple[float, ...]

    @property
    def times(self) -> tuple[float, ...]:
        """Of the evaluations; of the steps that were asked for, if the solver chooses its evaluations itself."""
        return self.plan.times if isinstance(self.plan, Plan) else self.nodes[:-1]


@dataclass(frozen=True)
class Choice:
    """What the user chose; see :class:`scoresde.integrations.diffusers.Scheduler` for the attributes."""

    solver: Solver | LazySolver
    grid: str | None
    grid_options: Mapping[str, float]
    count: str
    rounding: str
    end: str
    textbook: bool

    @classmethod
    def checked(
        cls,
        solver: str,
        solver_options: Mapping[str, Any] | None,
        grid: str | None,
        grid_options: Mapping[str, float] | None,
        count: str,
        rounding: str,
        end: str,
        textbook: bool,
    ) -> Choice:
        """From the arguments of the scheduler.

        Raises:
            ValueError: unknown names or options (the nearest are listed).
        """
        name, named_grid = split_name(solver)
        if grid is not None and named_grid is not None:
            raise ValueError(f"grid={grid!r}: solver={solver!r} names a grid already")
        grid = named_grid if grid is None else grid
        if grid is None and grid_options:
            raise ValueError(f"grid_options={dict(grid_options)}: pass the grid that they are for")
        return cls(
            get_solver(name, **dict(solver_options or {})),
            None if grid is None else choose(grid, GRID_NAMES, "grid"),
            dict(grid_options or {}),
            choose(count, COUNTS, "count"),
            choose(rounding, ROUNDINGS, "rounding"),
            choose(end, ENDS, "end"),
            bool(textbook),
        )

    @property
    def order(self) -> int:
        """Evaluations for each of ``num_inference_steps``, where they count steps; else 1."""
        return self.solver.evaluations if self.count == "steps" and isinstance(self.solver, Solver) else 1

    def plan(self, source: Source, request: Request) -> Planned:
        """Plan what a pipeline asks for.

        Raises:
            ValueError: steps of the user's own and a grid, or more steps than there are different times.
        """
        times, number = self._times(source, request), request.number
        if isinstance(self.solver, LazySolver):
            nodes = tuple(times(number or 0))
            return Planned(self.solver.plan(source.sde, nodes), nodes)
        made: dict[int, Sequence[float]] = {}

        def noted(steps: int) -> Sequence[float]:
            made.clear()
            return made.setdefault(steps, times(steps))

        if number is not None and self.count == "nfe":
            to_data = times(1)[-1] == 0.0
            plan = fill_budget(
                self.solver, source.sde, number, noted, to_data=to_data, most_gain=self._gain(self.solver)
            )
        else:
            plan = self._on(source, noted(number or 0))
        nodes = tuple(next(iter(made.values())))
        return Planned(self._seen(source, plan, nodes), nodes)

    def _seen(self, source: Source, plan: Plan, nodes: Sequence[float]) -> Plan:
        """The plan from its first evaluation: pipelines evaluate their noise as it is.

        What churn or an analytical first step would do to it before makes noise of noise, which they draw at once.
        """
        return plan if plan.rows[0].at is not None else tail(plan, 0, nodes, lambda rest: self._on(source, rest))

    def _times(self, source: Source, request: Request) -> Callable[[int], Sequence[float]]:
        """The grid as a function of the number of steps (of none, where the user gave the steps)."""
        given = "timesteps" if request.timesteps else "sigmas" if request.sigmas else None
        if given and self.grid is not None:
            raise ValueError(f"{given}= and grid={self.grid!r} both say where to evaluate: pass one of the two")

        def own(steps: int) -> Sequence[float]:
            if request.timesteps:
                return source.times_of_labels(request.timesteps, rounding=self.rounding)
            if request.sigmas or request.evenly:
                sigmas = request.sigmas or tuple(1 - i / steps for i in range(steps))
                return source.times_of_sigmas(sigmas, mu=request.mu, rounding=self.rounding)
            return source.times(steps, rounding=self.rounding, mu=request.mu)

        def ending(steps: int) -> Sequence[float]:
            times = own(steps)
            last = self._last(source, times[-1])
            if last == times[-1]:
                return times
            if times[-2] <= last * (1 + 1e-9):  # where the source's last step begins: one step more, and not that one
                times = own(steps + 1)[:-1]
            return distinct([*times[:-1], last])

        def named(steps: int) -> Sequence[float]:
            assert self.grid is not None
            end, shift = self._last(source, own(1)[-1]), source.shift(request.mu)
            times = get_grid(self.grid, source.sde, steps, end=end or "zero", shift=shift, **self.grid_options)
            if self.rounding != "grid" or not source.schedule.whole:
                return times
            return distinct([source.time(round(source.label(t))) if t > 0.0 else t for t in times])

        return ending if self.grid is None else named

    def _last(self, source: Source, of_source: float) -> float:
        return {"zero": 0.0, "eps": source.sde.eps, "source": of_source}[self.end]

    def _gain(self, solver: Solver) -> float:
        return math.inf if self.textbook else solver.most_gain

    def _on(self, source: Source, nodes: Sequence[float], **options: Any) -> Plan:
        """The solver, with some options changed, on a grid."""
        solver = self.solver
        assert isinstance(solver, Solver)
        known = {f.name for f in fields(solver)}  # type: ignore[arg-type]
        solver = replace(solver, **{k: v for k, v in options.items() if k in known})  # type: ignore[type-var]
        return make_plan(solver, source.sde, nodes, most_gain=self._gain(solver))

    def begun(self, source: Source, planned: Planned, first: int, eta: float = 0.0) -> Plan | LazyPlan:
        """What is left of a plan from evaluation ``first`` on, with the solver's eta changed if it is not 0.

        Raises:
            ValueError: the solver has no eta, or the plan no such evaluation.
        """
        plan, nodes = planned
        if not 0 <= first < len(planned.times):
            raise ValueError(f"begin_index must be 0 to {len(planned.times) - 1}, a place of timesteps; got {first}")
        changed = {"eta": eta} if eta else {}
        if eta and not hasattr(self.solver, "eta"):
            raise ValueError(f"eta={eta}: solver {self.solver.name!r} has no eta; 'ddim' and 'dpmpp-2m-sde' have one")
        if isinstance(plan, LazyPlan):
            return replace(plan, lazy_solver=replace(plan.lazy_solver, **changed), grid=nodes[first:])  # type: ignore[type-var]
        plan = self._seen(source, self._on(source, nodes, **changed), nodes) if eta else plan
        # A start of several evaluations a step would be more evaluations than were announced.
        return (
            tail(plan, first, nodes, lambda rest: self._on(source, rest, start="lower", **changed)) if first else plan
        )


def distinct(times: Sequence[float]) -> Sequence[float]:
    """The times, if they decrease.

    Raises:
        ValueError: two of them are the same.
    """
    for s, t in pairwise(times):
        if not t < s:
            raise ValueError(
                f"num_inference_steps: {len(times) - 1} steps are too many for rounding='grid' or for this end: after "
                f"t={s:.6g} comes {t:.6g}; take fewer, or rounding='none' and end='zero'"
            )
    return times


def short(values: Sequence[float]) -> str:
    """The first few of a list of numbers, and the last."""
    shown = ", ".join(f"{v:.6g}" for v in values[:4])
    return shown if len(values) <= 4 else f"{shown}, ..., {values[-1]:.6g}"
