"""yang-song/score_sde_pytorch."""

from __future__ import annotations

from itertools import pairwise

import scoresde as ss
from scoresde.solvers import DDIM, EulerMaruyama
from tests.golden.processes import NotYet, check_level, process_of
from tests.golden.reading import Options, Reading, Rule, along
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
    o.ignore("snr", "n_steps", "denoise")  # the last step adds no noise in any case
    o.need("continuous", False, False)
    sde, n = process_of(case), o.get("N", None)
    if not isinstance(sde, ss.VE):
        raise NotYet("ancestral sampling of VP with the variance beta")
    # Geometric levels, to the last of which time t belongs; the step goes one level down, and from the first to zero.
    levels = [sde.sigma_min * (sde.sigma_max / sde.sigma_min) ** (k / (n - 1)) for k in range(n)]
    below = [0.0, *levels]
    picked = [int(t * (n - 1) + 1e-9) for t, *_ in case.grid[:-1]]
    steps = [(levels[k], below[k]) for k in picked]
    process = ss.EDM(sde.sigma_min, sde.sigma_max * (1 + 1e-9))
    return along(process, DDIM(1.0), steps)


RULES: dict[str, Rule] = {
    "pc:euler_maruyama+none": s_euler_maruyama,
    "pc:ancestral_sampling+none": s_ancestral,
}
