r"""Solvers whose evaluations are not known beforehand, behind the same ask/tell as a plan.

A black-box integrator calls us; a run asks. :class:`LazyRun` turns one into the other by running the integrator in a
thread of its own that sleeps whenever it waits for a prediction, so that exactly one of the two threads ever runs.
"""

from __future__ import annotations

import queue
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from scoresde.plan import check_grid
from scoresde.run import Predictions, check_state, master_dtype
from scoresde.sde import SDE, Point
from scoresde.solvers import Entry

Ask = Callable[[Tensor, Point, str], Tensor]


class LazySolver(ABC):
    """A solver that asks for evaluations as it goes."""

    kind: str
    order: int
    paper: ClassVar[str] = ""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name under which :func:`scoresde.get_solver` makes it."""

    @abstractmethod
    def integrate(self, ask: Ask, sde: SDE, times: Sequence[float], x: Tensor) -> Tensor:
        """Carry x from the first to the last of the times; ``ask(x, point, kind)`` evaluates the network."""

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

    def start(self, x_T: Tensor, seed: int = 0, index: int | Sequence[int] = 0, *, check: str = "end") -> LazyRun:
        """Start a run from the noisy state x_T. The seed is not used: these solvers draw no noise.

        Non-finite predictions stop at once unless ``check`` is "off", since an adaptive integrator would never end on
        them.
        """
        return LazyRun(self, x_T, check=check)


class LazyRun:
    """A lazy solver being executed, with the ask/tell of :class:`scoresde.Run`. It cannot be saved."""

    def __init__(self, plan: LazyPlan, x_T: Tensor, *, check: str = "end") -> None:
        x_T = check_state(x_T)
        self.plan = plan
        self._dtype = x_T.dtype
        self._predictions = Predictions("each" if check == "end" else check)
        self._nfe = 0
        self._asked: tuple[Tensor, Point, str] | None = None
        self._result: Tensor | None = None
        asks: queue.Queue = queue.Queue(maxsize=1)
        tells: queue.Queue = queue.Queue(maxsize=1)
        self._asks, self._tells = asks, tells
        state = x_T.to(master_dtype(x_T.dtype))

        def ask(x: Tensor, point: Point, kind: str) -> Tensor:
            asks.put((x, point, kind))
            answer = tells.get()
            if answer is None:
                raise _Abandoned
            return answer

        def work() -> None:
            # The thread holds no reference to the run: an abandoned run can be collected, which ends the thread.
            try:
                asks.put(plan.lazy_solver.integrate(ask, plan.sde, plan.grid, state))
            except _Abandoned:
                pass
            except BaseException as error:  # handed over to the caller's thread
                asks.put(error)

        threading.Thread(target=work, daemon=True, name=f"scoresde {plan.solver}").start()
        weakref.finalize(self, tells.put, None)
        self._wait()

    def _wait(self) -> None:
        got = self._asks.get()
        if isinstance(got, BaseException):
            raise got
        self._asked, self._result = (got, None) if isinstance(got, tuple) else (None, got)

    @property
    def done(self) -> bool:
        """Whether the sample is finished."""
        return self._result is not None

    def _asking(self) -> tuple[Tensor, Point, str]:
        if self._asked is None:
            raise ValueError("the run is done: there is nothing to evaluate; read run.sample")
        return self._asked

    @property
    def x(self) -> Tensor:
        """The state to evaluate the network at, in the dtype of x_T."""
        state = self._asking()[0] if self._result is None else self._result
        return state.to(self._dtype)

    @property
    def point(self) -> Point:
        """The noise level to evaluate the network at."""
        return self._asking()[1]

    @property
    def t(self) -> float:
        """The time to evaluate the network at."""
        return self.point.t

    @property
    def kind(self) -> str:
        """The kind of prediction wanted."""
        return "x0" if self.done else self._asking()[2]

    @property
    def nfe(self) -> int:
        """Predictions told so far."""
        return self._nfe

    @property
    def sample(self) -> Tensor:
        """The result, in the dtype of x_T."""
        if self._result is None:
            raise ValueError(f"the run is not done: {self._nfe} predictions told so far")
        self._predictions.raise_if_bad(self._result, "the sample")
        return self.x

    def tell(self, prediction: Tensor, kind: str = "x0", unconditional: Tensor | None = None) -> None:
        """Give the prediction at (run.x, run.t) and go on to the next evaluation; see :meth:`scoresde.Run.tell`."""
        x, at, wanted = self._asking()
        self._tells.put(self._predictions.take(prediction, kind, x, at, wanted))
        self._nfe += 1
        self._wait()


class _Abandoned(Exception):
    """The run was thrown away; its thread ends."""


@dataclass(frozen=True)
class RK45(LazySolver):
    r"""Adaptive Runge–Kutta 5(4) on the probability-flow ODE, by torchdiffeq (Song et al. 2021, arXiv:2011.13456,
    section 4.3).

    It integrates :math:`d(x/S) = u\,dc` with the flow prediction u, :math:`S = \alpha+\sigma` and
    :math:`c = \sigma/S \in [0, 1]`, a variable that is bounded and finite at both ends for every process. Of the grid
    only the ends matter; a grid that ends at 0 is integrated to ``sde.eps`` and then denoised once.

    Args:
        rtol, atol: tolerances of one step, relative and absolute, on x/S.
    """

    rtol: float = 1e-5
    atol: float = 1e-5

    kind: ClassVar[str] = "flow"  # type: ignore[misc]
    paper: ClassVar[str] = "Song et al. 2021, arXiv:2011.13456; Dormand & Prince 1980"
    order: ClassVar[int] = 5  # type: ignore[misc]

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol and atol must be positive, got rtol={self.rtol}, atol={self.atol}")

    @property
    def name(self) -> str:
        """rk45."""
        return "rk45"

    def integrate(self, ask: Ask, sde: SDE, times: Sequence[float], x: Tensor) -> Tensor:
        """Integrate with torchdiffeq's dopri5."""
        import torch
        from torchdiffeq import odeint

        begin, end = sde.point(times[0]), sde.point(times[-1] or sde.eps)

        def clock(p: Point) -> float:
            return p.sigma / (p.alpha + p.sigma)

        def slope(c: Tensor, y: Tensor) -> Tensor:
            c = c.clamp(clock(end), clock(begin))  # the integrator may step past an end by rounding
            p = begin if c == clock(begin) else sde.point_at_lam(torch.logit(c, eps=None).neg().item())
            return ask(y * (p.alpha + p.sigma), p, self.kind)

        span = torch.tensor([clock(begin), clock(end)], dtype=torch.float64, device=x.device)
        y: Any = odeint(slope, x / (begin.alpha + begin.sigma), span, rtol=self.rtol, atol=self.atol, method="dopri5")
        x = y[-1] * (end.alpha + end.sigma)
        return ask(x, end, "x0") if times[-1] == 0.0 else x


TABLE = {"rk45": Entry(RK45, {}, ("dopri5",), "adaptive, black box (torchdiffeq)")}
