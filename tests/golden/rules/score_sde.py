"""yang-song/score_sde_pytorch."""

from __future__ import annotations

import math
from itertools import pairwise

import torch

import scoresde as ss
from scoresde.adaptive import Langevin
from scoresde.sde import SDE
from scoresde.solvers import DDIM, AnnealedLangevin, EulerMaruyama, ReverseChain
from tests.golden.processes import NotYet, check_level, process_of
from tests.golden.reading import Options, Reading, Rule, along, lazily
from tests.golden.store import Case

SHOWN = ("N", "predictor", "corrector", "eps", "time_grid")


def s_euler_maruyama(case: Case, o: Options) -> Reading:
    o.need("probability_flow", False, False)
    o.need("continuous", True, True)
    o.ignore("snr", "n_steps")  # of a corrector; there is none
    sde, n = process_of(case), o.get("N", None)
    times = [t for t, *_ in case.grid]  # the source's time is ours, and here the time itself matters
    for t, alpha, sigma in case.grid:
        check_level(sde, t, alpha, sigma)
    # The grid ends at eps, from where one more step of 1/N is taken to no level in particular.
    steps = [*pairwise(times[:-1]), (times[-2], times[-1])]
    return along(sde, EulerMaruyama(denoise_last=o.get("denoise", True), step_size=1 / n), steps)


def s_ancestral(case: Case, o: Options) -> Reading:
    o.need("probability_flow", False, False)
    o.ignore("snr", "n_steps", "denoise")  # no corrector; the last step, to level zero, adds no noise in any case
    o.need("continuous", False, False)
    sde, n = process_of(case), o.get("N", None)
    if isinstance(sde, ss.VP):
        # Level k of the chain is at time (k + 1)/N of its process; the step from the first adds its noise in full.
        o.need("denoise", True, True)
        chain = ss.DiscreteVP.from_betas(torch.linspace(sde.beta_min / n, sde.beta_max / n, n, dtype=torch.float64))
        steps = [((k + 1) / n, k / n) for k in picked_levels(case, n)]
        return along(chain, ReverseChain("ancestral"), steps, same_scale=True)
    assert isinstance(sde, ss.VE), "the source has no ancestral sampling of sub-VP"
    # Geometric levels, to the last of which time t belongs; the step goes one level down, and from the first to zero.
    levels = [sde.sigma_min * (sde.sigma_max / sde.sigma_min) ** (k / (n - 1)) for k in range(n)]
    below = [0.0, *levels]
    steps = [(levels[k], below[k]) for k in picked_levels(case, n)]
    process = ss.EDM(sde.sigma_min, sde.sigma_max * (1 + 1e-9))
    return along(process, DDIM(1.0), steps)


def picked_levels(case: Case, n: int) -> list[int]:
    """The level of the N-step chain that the source takes at each time of its grid."""
    return [int(t * (n - 1) + 1e-9) for t, *_ in case.grid[:-1]]


def s_reverse_diffusion(case: Case, o: Options) -> Reading:
    o.ignore("snr", "n_steps")  # of a corrector; there is none
    sde, steps = levels_of(case, o)
    return along(sde, reverse_diffusion(case, o, sde), steps)


def levels_of(case: Case, o: Options) -> tuple[SDE, list[tuple[float, float]]]:
    """The process, whose time is the source's, and the steps; one more from eps goes to no level in particular."""
    o.need("continuous", True, True)
    sde, times = process_of(case), [t for t, *_ in case.grid]
    for t, alpha, sigma in case.grid:
        check_level(sde, t, alpha, sigma)
    return sde, [*pairwise(times[:-1]), (times[-2], times[-1])]


def reverse_diffusion(case: Case, o: Options, sde: SDE) -> ReverseChain:
    n, times = o.get("N", None), [t for t, *_ in case.grid]
    if isinstance(sde, ss.VP):
        betas = [(sde.beta_min + (sde.beta_max - sde.beta_min) * k / (n - 1)) / n for k in range(n)]
        transitions = [(math.sqrt(1 - betas[k]), betas[k]) for k in picked_levels(case, n)]
    elif isinstance(sde, ss.VE):
        levels = [sde.sigma_min * (sde.sigma_max / sde.sigma_min) ** (k / (n - 1)) for k in range(n)]
        below = [0.0, *levels]
        transitions = [(1.0, levels[k] ** 2 - below[k] ** 2) for k in picked_levels(case, n)]
    else:  # Euler's step of 1/N in time
        transitions = [(1 + sde.drift(t) / n, sde.diffusion_squared(t) / n) for t in times[:-1]]
    flow = o.get("probability_flow", False)
    return ReverseChain("reverse-diffusion", flow, o.get("denoise", True), tuple(transitions))


def correctors_factors(case: Case, o: Options, sde: SDE) -> tuple[float, ...]:
    """1 - beta of the N-step chain at each time of the grid; 1 for VE."""
    if not isinstance(sde, ss.VP):
        assert isinstance(sde, ss.VE), "the source has no corrector of sub-VP"
        return (1.0,) * (len(case.grid) - 1)
    n = o.get("N", None)
    return tuple(1 - (sde.beta_min + (sde.beta_max - sde.beta_min) * k / (n - 1)) / n for k in picked_levels(case, n))


def s_langevin(case: Case, o: Options) -> Reading:
    sde, steps = levels_of(case, o)
    solver = Langevin(
        reverse_diffusion(case, o, sde),
        o.get("snr", 0.16),
        o.get("n_steps", 1),
        norms="batch",
        factors=correctors_factors(case, o, sde),
    )
    return lazily(case, solver, sde, [steps[0][0], *(t for _, t in steps)], every=solver.evaluations)


def s_ald(case: Case, o: Options) -> Reading:
    o.ignore("probability_flow", "denoise")  # of a predictor; there is none
    sde, steps = levels_of(case, o)
    factors = correctors_factors(case, o, sde)
    n = o.get("n_steps", 1)
    # The source draws also where its chain has the factor 0 and nothing is added.
    draws = tuple(i * n + j for i, a in enumerate(factors) if a > 0.0 for j in range(n))
    return along(sde, AnnealedLangevin(None, o.get("snr", 0.16), n, factors), steps, draws=draws)


def s_likelihood(case: Case, o: Options) -> Reading:
    raise NotYet("a likelihood, which no sampler computes")


RULES: dict[str, Rule] = {
    "pc:euler_maruyama+none": s_euler_maruyama,
    "pc:reverse_diffusion+none": s_reverse_diffusion,
    "pc:ancestral_sampling+none": s_ancestral,
    "pc:reverse_diffusion+langevin": s_langevin,
    "pc:none+ald": s_ald,
    "likelihood": s_likelihood,
}
