"""A lazy solver being executed: it calls the network, and a run asks.

The one is turned into the other by running the solver in a thread of its own that sleeps whenever it waits for a
prediction, so that exactly one of the two threads ever runs.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from scoresde.predictions import Kind
from scoresde.run import Predictions, check_state, master_dtype
from scoresde.sde import Point
from scoresde.sources import Noise, Noises

if TYPE_CHECKING:
    from scoresde.adaptive.base import LazyPlan

Ask = Callable[[Tensor, Point, str], Tensor]


class LazyRun:
    """A lazy solver being executed, with the ask/tell of :class:`scoresde.Run`. It cannot be saved."""

    def __init__(
        self,
        plan: LazyPlan,
        x_T: Tensor,
        *,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        noise: Noise | None = None,
        check: str = "end",
    ) -> None:
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
        state, solver = x_T.to(master_dtype(x_T.dtype)), plan.lazy_solver
        noises, made = Noises(noise, seed, index, state), 0

        def ask(x: Tensor, point: Point, kind: str) -> Tensor:
            nonlocal made
            if made == solver.max_nfe:
                raise ValueError(
                    f"{solver.name} has made max_nfe={made} evaluations and stands at t={point.t:.4g} on the way to "
                    f"t={plan.grid[-1]:.4g}: loosen its tolerances or raise max_nfe"
                )
            made += 1
            asks.put((x, point, kind))
            answer = tells.get()
            if answer is None:
                raise _Abandoned
            return answer

        def work() -> None:
            # The thread holds no reference to the run: an abandoned run can be collected, which ends the thread.
            try:
                asks.put(solver.integrate(ask, plan.sde, plan.grid, state, lambda k: noises.draw(k, None, state)))
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

    def tell(self, prediction: Tensor, kind: Kind = "x0", unconditional: Tensor | None = None) -> None:
        """Give the prediction at (run.x, run.t) and go on to the next evaluation; see :meth:`scoresde.Run.tell`."""
        x, at, wanted = self._asking()
        self._tells.put(self._predictions.take(prediction, kind, x, at, wanted))
        self._nfe += 1
        self._wait()


class _Abandoned(Exception):
    """The run was thrown away; its thread ends."""
