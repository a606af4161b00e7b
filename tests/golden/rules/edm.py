"""NVlabs/edm: ``edm_sampler`` and ``ablation_sampler``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import scoresde as ss
from scoresde.plan import plan_steps
from scoresde.rows import Row, Step
from scoresde.solvers import ProbabilityFlow, RungeKutta
from tests.golden.processes import Ablation, times_at, vp_through
from tests.golden.reading import Options, Reading, Rule, no_churn, on_grid, running
from tests.golden.store import Case

SHOWN = ("num_steps", "sigma_min", "sigma_max", "rho", "epsilon_s", "C_1", "C_2", "M")


def edm_sampler(case: Case, o: Options) -> Reading:
    no_churn(o, "S_churn")
    return on_grid(case, RungeKutta("heun"), latents=True)


@dataclass(frozen=True)
class AblationSolver(ProbabilityFlow):
    """Euler or Heun in time, and Euler on the last step, which runs into t = 0."""

    ends_at_data: ClassVar[bool] = True

    def rows(self, step: Step) -> Sequence[Row]:
        return ProbabilityFlow("euler" if step.remaining == 1 else self.method).rows(step)


# Its default ends of the noise level, by discretisation (Karras et al. 2022, Table 1).
ABLATION_ENDS: dict[str, Callable[[float], tuple[float, float]]] = {
    "vp": lambda eps: (ss.VP(0.1, 20.0).rho(eps), ss.VP(0.1, 20.0).rho(1.0)),
    "ve": lambda eps: (0.02, 100.0),
    "iddpm": lambda eps: (0.002, 81.0),
    "edm": lambda eps: (0.002, 80.0),
}


def edm_ablation(case: Case, o: Options) -> Reading:
    no_churn(o, "S_churn")
    method = o.need("solver", "heun", "euler", "heun")
    if method == "heun":
        o.need("alpha", 1, 1)
    o.ignore("alpha")
    schedule, scaling, eps = o.get("schedule", "linear"), o.get("scaling", "none"), o.get("epsilon_s", 1e-3)
    low, high = ABLATION_ENDS[o.get("discretization", "edm")](eps)
    beta_d, beta_min = vp_through(o.get("sigma_min", low), o.get("sigma_max", high), eps)
    if (schedule, scaling) == ("linear", "none"):
        return on_grid(case, RungeKutta(method), latents=True)
    sde = Ablation(schedule, scaling == "vp", beta_d, beta_min)
    if (schedule, scaling) == ("vp", "vp") and beta_min > 0:
        sde = ss.VP(beta_min, beta_min + beta_d)
    times = times_at(sde, case.grid)
    last = len(times) - 2
    # Our Heun would not take the last step itself, hence its count of evaluations by hand.
    states = running(1 if method == "euler" or i == last else 2 for i in range(len(times) - 1))
    plan = plan_steps(AblationSolver(method), sde, pairwise(times))
    return Reading(sde, plan, states, latents=True)


RULES: dict[str, Rule] = {
    "edm_sampler": edm_sampler,
    "ablation_sampler": edm_ablation,
}
