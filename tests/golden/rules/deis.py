"""qsh-zh/deis."""

from __future__ import annotations

from dataclasses import dataclass

import torch

import scoresde as ss
from scoresde.rows import Step
from scoresde.solvers import DEIS, PNDM, RungeKutta
from tests.golden.reading import Options, Reading, Rule, on_grid
from tests.golden.store import Case

SHOWN = ("ts_phase", "ts_order", "num_step", "sampling_eps", "sampling_T")
N = 10000  # known_issues: "left Riemann sums with 10000 nodes: relative accuracy about 1e-4"


RHO_RK = {
    "1euler": "euler",
    "2heun": "heun",
    "3heun": "heun3",
    "3kutta": "kutta3",
    "3ral": "ralston3",
    "3ssprk": "ssprk3",
    "3vdh": "houwen-wray3",
    "4rk": "rk4",
}


def deis_rho_rk(case: Case, o: Options) -> Reading:
    o.ignore("method", "ab_order")
    return on_grid(case, RungeKutta(RHO_RK[o.need("rk_method", "3kutta", *RHO_RK)]))


@dataclass(frozen=True)
class SummedDEIS(DEIS):
    """tAB with its integrals as the public code takes them: sums over 10000 equal intervals, or over 10000 nodes with
    ``both_ends`` of the step among them (and then the first step is exact)."""

    both_ends: bool = False

    def moments(self, step: Step, count: int) -> list[float]:
        if self.both_ends and count == 1:
            return super().moments(step, count)
        sde, span = step.sde, step.t.t - step.s.t
        dt = span * torch.arange(N, dtype=torch.float64) / (N - 1 if self.both_ends else N)
        t = step.s.t + dt
        slope = sde.diffusion_squared(t) / (2 * sde.alpha(t) * sde.sigma(t))  # of rho
        return [(slope * dt**n).sum().item() * span / N for n in range(count)]


def deis_t_ab(case: Case, o: Options) -> Reading:
    o.need("method", "t_ab", "t_ab")
    o.ignore("rk_method")
    return on_grid(case, SummedDEIS(1 + o.get("ab_order", 3)))


def deis_rho_ab(case: Case, o: Options) -> Reading:
    o.need("method", "rho_ab", "rho_ab")
    o.ignore("rk_method")
    # rhoAB is tAB on the process whose time is sigma/alpha.
    levels = [sigma / alpha for _, alpha, sigma in case.grid]
    return on_grid(case, SummedDEIS(1 + o.get("ab_order", 3)), ss.EDM(min(levels), max(levels)))


def deis_ipndm(case: Case, o: Options) -> Reading:
    o.need("method", "ipndm", "ipndm")
    o.ignore("rk_method")
    o.ignore("ab_order")  # it is always of order 4
    return on_grid(case, PNDM(4))


RULES: dict[str, Rule] = {
    "deis_rho_rk": deis_rho_rk,
    "deis_rho_ab": deis_rho_ab,
    "deis_t_ab": deis_t_ab,
    "deis_ipndm": deis_ipndm,
}
