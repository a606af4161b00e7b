"""NVlabs/edm: ``edm_sampler`` and ``ablation_sampler``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import scoresde as ss
from scoresde.plan import plan_steps
from scoresde.rows import KEEP_STATE, Mix, Row, Solver, Step
from scoresde.solvers import Churn, ProbabilityFlow, RungeKutta
from scoresde.solvers.churn import MOST_CHURN
from scoresde.solvers.tableaus import two_stages
from tests.golden.processes import Ablation, NotYet, times_at, vp_through
from tests.golden.reading import Options, Reading, Rule, a_draw_each_step, no_churn, on_grid, running
from tests.golden.store import Case

SHOWN = ("num_steps", "sigma_min", "sigma_max", "rho", "epsilon_s", "C_1", "C_2", "M")


def with_churn(case: Case, o: Options, inner: Solver, first: float, reading: Reading) -> Reading:
    """The reading without churn, churned. The recorded grid has the raised levels, from which the others follow."""
    if not o.get("S_churn", 0):
        no_churn(o, "S_churn")
        return reading
    low, high = o.get("S_min", 0.0), o.get("S_max", math.inf)
    churn = Churn(inner, float(o.get("S_churn", 0)), low, high, o.get("S_noise", 1.0))
    factor = 1 + min(churn.s_churn / (len(case.grid) - 1), MOST_CHURN)
    # Levels that are no raised one: the first, and those of the second stages of Heun's method.
    others = [first, *(sigma / alpha for alpha, sigma in case.evals)]
    levels = []
    for _, alpha, sigma in case.grid[:-1]:
        hat = sigma / alpha
        plain, lowered = not low <= hat <= high, low <= hat / factor <= high
        if plain and lowered:
            lowered = any(math.isclose(hat / factor, v, rel_tol=1e-9) for v in others)
        if not (plain or lowered):
            raise NotYet(f"the level {hat} is neither with nor without churn")
        levels.append((1.0, hat / factor if lowered else hat))
    times = times_at(reading.sde, [*levels, (1.0, 0.0)])
    return a_draw_each_step(replace(reading, plan=plan_steps(churn, reading.sde, pairwise(times))))


def edm_sampler(case: Case, o: Options) -> Reading:
    heun = RungeKutta("heun")
    return with_churn(case, o, heun, o.get("sigma_max", 80.0), on_grid(case, heun, latents=True))


@dataclass(frozen=True)
class AblationSolver(ProbabilityFlow):
    """Euler or a method of two stages in time, the second at the fraction alpha of the step (Heun at 1), and Euler on
    the last step, which runs into t = 0."""

    alpha: float = 1.0

    ends_at_data: ClassVar[bool] = True

    def rows(self, step: Step) -> Sequence[Row]:
        if step.remaining == 1 or self.method == "euler" or self.alpha == 1.0:
            return ProbabilityFlow("euler" if step.remaining == 1 else self.method).rows(step)
        dt = step.t.t - step.s.t
        u = step.sde.point(step.s.t + self.alpha * dt)
        (euler,) = ProbabilityFlow("euler").rows(replace(step, t=u))
        # The first slope is the way to u over alpha dt; the slopes have the weights 1 - 1 / (2 alpha), 1 / (2 alpha).
        first, half = (1 - 1 / (2 * self.alpha)) / self.alpha, dt / (2 * self.alpha)
        drift, on_noise = step.sde.drift(u.t), step.sde.diffusion_squared(u.t) / (2 * u.sigma)
        mean = Mix(x=first + half * drift, anchor=1 - first, d=(half * on_noise,))
        return [euler._replace(anchor=KEEP_STATE), Row(u, self.kind, mean)]


# Its default ends of the noise level, by discretisation (Karras et al. 2022, Table 1).
ABLATION_ENDS: dict[str, Callable[[float], tuple[float, float]]] = {
    "vp": lambda eps: (ss.VP(0.1, 20.0).rho(eps), ss.VP(0.1, 20.0).rho(1.0)),
    "ve": lambda eps: (0.02, 100.0),
    "iddpm": lambda eps: (0.002, 81.0),
    "edm": lambda eps: (0.002, 80.0),
}


def edm_ablation(case: Case, o: Options) -> Reading:
    method = o.need("solver", "heun", "euler", "heun")
    alpha = float(o.get("alpha", 1))
    schedule, scaling, eps = o.get("schedule", "linear"), o.get("scaling", "none"), o.get("epsilon_s", 1e-3)
    low, high = ABLATION_ENDS[o.get("discretization", "edm")](eps)
    beta_d, beta_min = vp_through(o.get("sigma_min", low), o.get("sigma_max", high), eps)
    first = o.get("sigma_max", high)
    if (schedule, scaling) == ("linear", "none"):
        solver = RungeKutta("euler" if method == "euler" else two_stages(alpha))
        return with_churn(case, o, solver, first, on_grid(case, solver, latents=True))
    sde = Ablation(schedule, scaling == "vp", beta_d, beta_min)
    if (schedule, scaling) == ("vp", "vp") and beta_min > 0:
        sde = ss.VP(beta_min, beta_min + beta_d)
    times = times_at(sde, case.grid)
    last = len(times) - 2
    # Our Heun would not take the last step itself, hence its count of evaluations by hand.
    states = running(1 if method == "euler" or i == last else 2 for i in range(len(times) - 1))
    solver = AblationSolver(method, alpha)
    return with_churn(
        case, o, solver, first, Reading(sde, plan_steps(solver, sde, pairwise(times)), states, latents=True)
    )


RULES: dict[str, Rule] = {
    "edm_sampler": edm_sampler,
    "ablation_sampler": edm_ablation,
}
