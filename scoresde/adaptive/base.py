"""What every lazy solver shares: its plan, which is no list of rows, and steps that are made of fixed-step plans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from scoresde.adaptive.run import Ask, LazyRun
from scoresde.errors import check_positive_int
from scoresde.plan import Plan, check_grid
from scoresde.sde import SDE, Point
from scoresde.sources import Noise, NoiseSource


class LazySolver(ABC):
    """A solver whose evaluations, or the numbers that it mixes with, depend on the samples.

    Attributes:
        kind: the kind of prediction that it asks for.
        order: the global order of convergence of its steps; 0 where there is none to speak of.
        noises: noises drawn in a step, 0 for a deterministic solver.
        follows_grid: its steps are those of the grid; otherwise only the ends of the grid matter.
        max_nfe: evaluations after which a run gives up with an error, or None for no limit.
    """

    kind: str
    order: int
    paper: ClassVar[str] = ""
    noises: int = 0
    follows_grid: bool = False
    max_nfe: int | None = None

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return self.noises == 0

    @property
    @abstractmethod
    def name(self) -> str:
        """The name under which :func:`scoresde.get_solver` makes it."""

    @abstractmethod
    def integrate(self, ask: Ask, sde: SDE, times: Sequence[float], x: Tensor, noise: NoiseSource) -> Tensor:
        """Carry x from the first to the last of the times.

        Args:
            ask: ``ask(x, point, kind)`` evaluates the network.
            sde: the process.
            times: the grid.
            x: the noisy state, in float32 or better.
            noise: ``noise(k)`` is standard normal noise number k = 0, 1, ... of the shape of x.
        """

    def plan(self, sde: SDE, grid: Iterable[float]) -> LazyPlan:
        """What :func:`scoresde.make_plan` makes of this solver."""
        return LazyPlan(self, sde, tuple(check_grid(grid, sde)))


@dataclass(frozen=True)
class LazyPlan:
    """A solver with its process and grid: it can be run; how many evaluations it takes is known at the end."""

    lazy_solver: LazySolver
    sde: SDE
    grid: tuple[float, ...]

    @property
    def solver(self) -> str:
        """The solver's name."""
        return self.lazy_solver.name

    @property
    def begin(self) -> Point:
        """The noise level of x_T."""
        return self.sde.point(self.grid[0])

    @property
    def end(self) -> Point:
        """The noise level of the sample."""
        return self.sde.point(self.grid[-1])

    def start(
        self,
        x_T: Tensor,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        *,
        noise: Noise | None = None,
        check: str = "end",
    ) -> LazyRun:
        """Start a run from the noisy state x_T; arguments as of :meth:`scoresde.Plan.start`, but for a Brownian
        path: of steps that are chosen on the way, or repeated, no part of one is known, so noises are drawn apart.

        Noise number k of a sample depends on (seed, its index) only, as in a plan. Non-finite predictions stop at once
        unless ``check`` is "off", since an adaptive integrator would never end on them.
        """
        return LazyRun(self, x_T, seed=seed, index=index, noise=noise, check=check)

    def __str__(self) -> str:
        of_grid = f"{len(self.grid) - 1} steps" if self.lazy_solver.follows_grid else "steps of its own choice"
        return f"LazyPlan({self.solver}, t={self.grid[0]:.4g} -> {self.grid[-1]:.4g}, {of_grid})"


def together(
    ask: Ask, x: Tensor, plans: Sequence[Plan], *, first: Tensor | None = None, noise: NoiseSource | None = None
) -> tuple[Tensor, ...]:
    """Run fixed-step plans from one state side by side; each evaluation serves every plan that is not done.

    Args:
        ask: evaluates the network.
        x: the state that all plans start from.
        plans: the last one asks; each other evaluates at the same points, as far as it goes, with the same predictions
            (an embedded pair of methods).
        first: the first prediction, if it is known already.
        noise: the noise of the plans.

    Returns:
        Where each plan ends.
    """
    runs = [plan.start(x, noise=noise, check="off") for plan in plans]
    leader = runs[-1]
    while not leader.done:
        kind = leader.kind
        m = ask(leader.x, leader.point, kind) if first is None else first
        first = None
        for run in runs:
            if not run.done:
                run.tell(m, kind)
    return tuple(run.sample for run in runs)


def check_max_nfe(max_nfe: int | None) -> None:
    """Validate the option that every lazy solver has.

    Raises:
        TypeError, ValueError: neither None nor an integer of at least 1.
    """
    if max_nfe is not None:
        check_positive_int(max_nfe, "max_nfe")


def check_tolerances(rtol: float, atol: float) -> None:
    """Validate the two options that adaptive solvers share.

    Raises:
        ValueError: one of them is not positive.
    """
    if not (rtol > 0 and atol > 0):
        raise ValueError(f"rtol and atol must be positive, got rtol={rtol}, atol={atol}")
