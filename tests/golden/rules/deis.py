"""qsh-zh/deis."""

from __future__ import annotations

from scoresde.solvers import DDIM, RungeKutta
from tests.golden.reading import Options, Reading, Rule, on_grid
from tests.golden.store import Case

SHOWN = ("ts_phase", "ts_order", "num_step", "sampling_eps", "sampling_T")
LEFT_SUMS = 1e-3  # known_issues: "left Riemann sums with 10000 nodes: relative accuracy about 1e-4", times ten steps


def deis_rho_rk(case: Case, o: Options) -> Reading:
    o.ignore("method", "ab_order")
    methods = {"1euler": "euler", "2heun": "heun"}
    return on_grid(case, RungeKutta(methods[o.need("rk_method", "3kutta", *methods)]))


def deis_ab(case: Case, o: Options) -> Reading:
    o.ignore("rk_method")
    o.need("ab_order", 3, 0)  # without a past it is DDIM
    # In rho the sum is that of the constant 1, and exact.
    return on_grid(case, DDIM(), quadrature=LEFT_SUMS if o.get("method", "t_ab") == "t_ab" else 0.0)


RULES: dict[str, Rule] = {
    "deis_rho_rk": deis_rho_rk,
    "deis_rho_ab": deis_ab,
    "deis_t_ab": deis_ab,
    "deis_ipndm": deis_ab,
}
