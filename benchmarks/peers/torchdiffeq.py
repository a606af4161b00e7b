r"""Rows of torchdiffeq (https://github.com/rtqichen/torchdiffeq): its fixed-step solvers on the probability-flow ODE.

A solver of ODEs leaves open in which variable the equation is written. The option ``variable`` says it:

========== ============================ ======================== ===================================
variable   state                        clock                    derivative
========== ============================ ======================== ===================================
``rho``    :math:`x/\alpha`             :math:`\sigma/\alpha`    :math:`\epsilon`
``flow``   :math:`x/(\alpha+\sigma)`    :math:`\sigma/(\alpha+\sigma)`  :math:`\epsilon - x_0`
``t``      x                            t                        :math:`f x + g^2\epsilon/(2\sigma)`
========== ============================ ======================== ===================================

By default it is ``rho``, that of EDM and k-diffusion, and ``flow`` where alpha = 0 at the start.

**The end.** Where sigma = 0 the noise in x is 0/0: no network is asked there. Solvers that never look at the end of a
step go on to 0 itself. The others go to the last positive time of the grid, and take the step to 0 with the Euler
method, one call, as the Heun method of EDM does (Karras et al. 2022, arXiv:2206.00364, algorithm 1). In the variable t
the derivative itself grows without bound, and all of them end at ``sde.eps``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.peers.base import (
    ONE,
    OWN,
    Calls,
    Package,
    each,
    grid_name,
    most_steps,
    options_of,
    short_of_zero,
    times_of,
)
from scoresde.bench.samplers import Factory, Prepared
from scoresde.bench.suite import Cell
from scoresde.denoiser import BaseDenoiser
from scoresde.errors import choose
from scoresde.sde import SDE

PACKAGE = Package("torchdiffeq", "pip install torchdiffeq")


class Variable(NamedTuple):
    """How the equation is written: its clock at a time and back, what x is divided by, and the derivative as a kind of
    prediction with its coefficients (on the state, on the prediction) at a time."""

    clock: Callable[[SDE, float], float]
    time: Callable[[SDE, float], float]
    scale: Callable[[SDE, float], float]
    kind: str
    slope: Callable[[SDE, float], tuple[float, float]]


def _time_of_share(sde: SDE, share: float) -> float:
    """The time at which sigma / (alpha + sigma) is so much."""
    logit = torch.logit(torch.tensor(1.0 - share, dtype=torch.float64))
    return float(sde.t_at_lam(logit))


VARIABLES = {
    "rho": Variable(
        lambda sde, t: sde.rho(t),
        lambda sde, rho: float(sde.t_at_lam(-torch.tensor(rho, dtype=torch.float64).log())),
        lambda sde, t: sde.alpha(t),
        "epsilon",
        lambda sde, t: (0.0, 1.0),
    ),
    "flow": Variable(
        lambda sde, t: sde.sigma(t) / (sde.alpha(t) + sde.sigma(t)),
        _time_of_share,
        lambda sde, t: sde.alpha(t) + sde.sigma(t),
        "flow",
        lambda sde, t: (0.0, 1.0),
    ),
    "t": Variable(
        lambda sde, t: t,
        lambda sde, t: t,
        lambda sde, t: 1.0,
        "epsilon",
        lambda sde, t: (sde.drift(t), sde.diffusion_squared(t) / (2 * sde.sigma(t))),
    ),
}


@dataclass(frozen=True)
class Sampler:
    """One fixed-step solver as a row.

    Attributes:
        method: its name in torchdiffeq.
        order: of convergence.
        calls: network calls of so many steps.
        looks_at_end: whether it asks for the derivative at the end of a step.
        equal_steps: whether its coefficients hold for equal steps only.
    """

    method: str
    order: int
    calls: Calls
    looks_at_end: bool = False
    equal_steps: bool = False

    def __call__(self, cell: Cell, sde: SDE) -> Prepared:
        """The row for a cell; see :data:`scoresde.bench.samplers.Factory`."""
        odeint = PACKAGE.load("torchdiffeq").odeint
        options = options_of(cell, ["variable"])
        name = options.get("variable", "rho" if sde.alpha(sde.T) > 0.0 else "flow")
        variable = choose(name, VARIABLES, "variable")
        if sde.alpha(sde.T) == 0.0 and name != "flow":
            raise ValueError(f"variable={name!r} is infinite where alpha = 0, as at the start of {cell.sde.label!r}")
        end = short_of_zero(cell) if name == "t" else cell.end
        in_one_go = not self.looks_at_end or end not in ("zero", 0.0)

        def calls(steps: int) -> int:
            return self.calls(steps) if in_one_go else 1 + (self.calls(steps - 1) if steps > 1 else 0)

        steps = most_steps(cell, calls)
        times = self._times(cell, sde, steps, end, variable)
        parts = [(self.method, times)] if in_one_go else [(self.method, times[:-1]), ("euler", times[-2:])]

        def draw(denoiser: BaseDenoiser, x_T: Tensor, seed: int, first: int, cond: Mapping[str, Tensor]) -> Tensor:
            def derivative(clock: Tensor, y: Tensor) -> Tensor:
                now = float(clock)
                t = min(known[now] if now in known else variable.time(sde, now), sde.T)
                on_x, on_prediction = variable.slope(sde, t)
                scale = variable.scale(sde, t)
                x = y if scale == 1.0 else y * scale
                prediction = denoiser.predict(x, t, variable.kind, **cond)
                return prediction if (on_x, on_prediction) == (0.0, 1.0) else on_x * x + on_prediction * prediction

            y = x_T / variable.scale(sde, times[0])
            for method, part in parts:
                if len(part) > 1:
                    clocks = torch.tensor([variable.clock(sde, t) for t in part], dtype=torch.float64, device=y.device)
                    known = dict(zip(clocks.to(y.dtype).tolist(), part, strict=True))
                    # Only the ends are asked for: the states between would all be kept.
                    asked = {"grid_constructor": lambda f, y0, t, grid=clocks: grid}
                    y = odeint(derivative, y, clocks[[0, -1]], method=method, options=asked)[-1]
            return y * variable.scale(sde, times[-1])

        return Prepared(calls(steps), False, self.order, times[0], times[-1], draw, package=PACKAGE.label)

    def _times(self, cell: Cell, sde: SDE, steps: int, end: str | float, variable: Variable) -> tuple[float, ...]:
        if grid_name(cell) != OWN:
            if self.equal_steps:
                raise ValueError(
                    f"{cell.solver.name!r} has the coefficients of equal steps: it runs on the grid {OWN!r} only, "
                    f"equal steps of its variable, got {cell.grid.label!r}"
                )
            return times_of(cell, sde, steps, end)
        last = {"zero": 0.0, "eps": sde.eps}.get(end, end) if isinstance(end, str) else end
        first_clock, last_clock = (variable.clock(sde, float(t)) for t in (sde.T, last))
        between = torch.linspace(first_clock, last_clock, steps + 1, dtype=torch.float64).tolist()[1:-1]
        return (sde.T, *(variable.time(sde, clock) for clock in between), float(last))


def _adams(steps: int) -> int:
    """Two steps of the Runge-Kutta method of order 4, until there are three derivatives."""
    return steps + 3 * min(steps, 2)


# To add a solver: a line.
ROWS = {
    "euler": Sampler("euler", 1, ONE),
    "midpoint": Sampler("midpoint", 2, each(2)),
    "heun2": Sampler("heun2", 2, each(2), looks_at_end=True),
    "heun3": Sampler("heun3", 3, each(3)),
    "rk4": Sampler("rk4", 4, each(4), looks_at_end=True),
    "explicit_adams": Sampler("explicit_adams", 4, _adams, looks_at_end=True, equal_steps=True),
}
SAMPLERS: Mapping[str, Factory] = {f"torchdiffeq/{name}": row for name, row in ROWS.items()}
