"""Our grids are the recorded ones where a source names one of ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate
from math import inf
from typing import Any

import pytest

import scoresde as ss
from scoresde.sde import SDE
from tests.golden.processes import NUMBER, named_process, process_of, vp_through
from tests.golden.rules.dpm_solver import DPM_GRIDS, split_singlestep
from tests.golden.rules.edm import ABLATION_ENDS
from tests.golden.store import Case, golden

# A grid of ours: the process, and the arguments of get_grid; None where the source's spacing is not one of ours.
Ours = tuple[SDE, dict[str, Any]] | None


def k_diffusion(case: Case, o: dict[str, Any]) -> Ours:
    steps = o.get("n", 0)
    if case.solver == "dpm_fast":  # its own: equal steps in the logarithm, floor(n / 3) + 1 of them
        sde = ss.EDM(o["sigma_min"], o["sigma_max"])
        return sde, {"grid": "exponential", "steps": steps // 3 + 1, "end": "eps"}
    if found := re.fullmatch(rf"get_sigmas_karras\(n, {NUMBER}, {NUMBER}, rho={NUMBER}\)", o.get("sigmas", "")):
        low, high, rho = map(float, found.groups())
        return ss.EDM(low, high), {"grid": "karras", "steps": steps, "rho": rho}
    if found := re.fullmatch(rf"get_sigmas_exponential\(n, {NUMBER}, {NUMBER}\)", o.get("sigmas", "")):
        low, high = map(float, found.groups())
        return ss.EDM(low, high), {"grid": "exponential", "steps": steps}
    if found := re.fullmatch(
        rf"get_sigmas_polyexponential\(n, {NUMBER}, {NUMBER}, rho={NUMBER}\)", o.get("sigmas", "")
    ):
        low, high, rho = map(float, found.groups())
        return ss.EDM(low, high), {"grid": "polyexponential", "steps": steps, "rho": rho}
    if found := re.fullmatch(
        rf"get_sigmas_vp\(n, beta_d={NUMBER}, beta_min={NUMBER}, eps_s={NUMBER}\)", o.get("sigmas", "")
    ):
        beta_d, beta_min, eps = map(float, found.groups())
        # On a process that goes further at both ends: the levels are the grid's own.
        return ss.EDM(1e-4, 1e4), {"grid": "vp", "steps": steps, "beta_d": beta_d, "beta_min": beta_min, "eps_s": eps}
    return None


def edm(case: Case, o: dict[str, Any]) -> Ours:
    steps, rho, eps = o["num_steps"], o.get("rho", 7.0), o.get("epsilon_s", 1e-3)
    if o.get("S_churn"):
        return None  # the recorded levels are those after churn
    spacing = o.get("discretization", "edm")
    if o.get("schedule") == "vp" and spacing != "vp":
        return None  # the levels have gone through the inverse of VP's rho, which cancels at small ones
    low, high = ABLATION_ENDS[spacing](eps)
    low, high = o.get("sigma_min", low), o.get("sigma_max", high)
    if spacing == "edm":
        return ss.EDM(low, high), {"grid": "edm", "steps": steps, "rho": rho, "sigma_min": low, "sigma_max": high}
    if spacing == "ve":
        return ss.EDM(low, high), {"grid": "exponential", "steps": steps}
    if spacing == "vp" and vp_through(low, high, eps)[1] > 0:
        beta_d, beta_min = vp_through(low, high, eps)
        sde = ss.VP(beta_min, beta_min + beta_d, eps)
        return sde, {"grid": "normal", "steps": steps}
    if spacing == "iddpm":
        return _iddpm(case, steps)
    return None


def _iddpm(case: Case, steps: int, table: int = 1000) -> Ours:
    """The cosine grid, its times rounded to those of a table."""
    cosine, levels = ss.CosineVP(), [sigma / alpha for _, alpha, sigma in case.grid]
    sde = ss.EDM(levels[-2], levels[0])
    real = (cosine.t_at_lam(sde.lam(t)) for t in ss.get_grid("cosine", sde, steps - 1, end="eps"))
    return sde, {"grid": (*(cosine.rho(round(table * t) / table) for t in real), 0.0)}


def dpm_solver(case: Case, o: dict[str, Any]) -> Ours:
    names = {**DPM_GRIDS, "time": "quadratic"}
    if o["skip_type"] not in names:
        return None
    sde, n = process_of(case), o["steps"]
    name = names[o["skip_type"]]
    options: dict[str, Any] = {"power": o.get("skip_order", 1)} if o["skip_type"] == "time" else {}
    start, end = o.get("t_start", sde.T), o.get("t_end", 1 / sde.n if isinstance(sde, ss.DiscreteVP) else 1e-3)
    orders = [1] * n
    if o.get("method") == "singlestep":
        orders = split_singlestep(n, o["order"])
        if name == "log-snr":
            n, orders = len(orders), [1] * len(orders)
    elif o.get("method") == "singlestep_fixed":
        n = n // o["order"]
        orders = [1] * n
    times = ss.get_grid(name, sde, n, start=start, end=end, **options)
    picked = [times[i] for i in accumulate(orders, initial=0)]
    denoises = case.grid[-1][2] == 0.0
    return sde, {"grid": (*picked, *([0.0] if denoises else []))}


def diff_sampler(case: Case, o: dict[str, Any]) -> Ours:
    low, high = o.get("sigma_min", 0.002), o.get("sigma_max", 80.0)
    n, rho = o["num_steps"] - 1, float(o.get("schedule_rho", 7.0))
    end = {"end": "zero"} if case.grid[-1][2] == 0.0 else {"end": "eps"}
    n += end["end"] == "zero"
    spacing = o.get("schedule_type", "polynomial")
    if spacing == "polynomial":
        return ss.EDM(low, high), {"grid": "karras", "steps": n, "rho": rho, **end}
    if spacing == "logsnr":
        return ss.EDM(low, high), {"grid": "exponential", "steps": n, **end}
    if spacing == "time_uniform" and end["end"] == "eps":
        beta_d, beta_min = vp_through(low, high)
        if beta_min <= 0:
            return None  # not a process of ours: it would add noise only from some time on
        sde = ss.VP(beta_min, beta_min + beta_d)
        return sde, {"grid": "quadratic", "steps": n, "power": rho, **end}
    return None


def deis(case: Case, o: dict[str, Any]) -> Ours:
    sde = process_of(case)
    common = {"steps": o["num_step"], "start": o["sampling_T"], "end": o["sampling_eps"]}
    if o["ts_phase"] == "t":
        return sde, {"grid": "quadratic", "power": float(o["ts_order"]), **common}
    if o["ts_phase"] == "rho":
        return sde, {"grid": "karras", "rho": float(o["ts_order"]), **common}
    return sde, {"grid": "log-snr", **common}


# Options of diffusers that space sigma, not time.
BY_SIGMA = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_lu_lambdas": "lu",
    "use_beta_sigmas": "beta-diffusers",
}


def diffusers(case: Case, o: dict[str, Any]) -> Ours:
    made = o["constructor"]
    n = o["num_inference_steps"]
    grid = next((grid for option, grid in BY_SIGMA.items() if made.get(option)), None)
    if {"sigma_min", "sigma_max"} & set(made) or case.info["nfe"] != n:
        return None  # of a two-stage scheduler the grid has two rows a step
    if any(
        made.get(option) for option in ("use_flow_sigmas", "use_dynamic_shifting", "shift_terminal", "invert_sigmas")
    ):
        return None
    if case.solver.startswith("FlowMatch") and grid is None:
        # The smallest sigma, 1/1000, has gone through the shift when the spacing begins, and is shifted again with it.
        s, sde = made.get("shift", 1.0), ss.RectifiedFlow()
        end = 1 / made.get("num_train_timesteps", 1000)
        for _ in range(2):
            end = s * end / (1 + (s - 1) * end)
        return sde, {"grid": (*ss.get_grid("uniform", sde, n - 1, end=end, shift=s), 0.0)}
    if grid is None or case.solver.startswith("FlowMatch"):
        return None
    table = named_process(case)
    assert isinstance(table, ss.DiscreteVP)
    sde = ss.EDM(table.rho(1 / table.n), table.rho(1.0))
    if made.get("final_sigmas_type", "zero") == "zero":
        return sde, {"grid": grid, "steps": n}
    return sde, {"grid": grid, "steps": n - 1, "end": "eps"}  # and the last level once more


def score_sde(case: Case, o: dict[str, Any]) -> Ours:
    if "N" not in o:
        return None
    sde = process_of(case)
    return sde, {"grid": "uniform", "steps": o["N"] - 1, "end": o["eps"]}  # and the last level once more


def er_sde(case: Case, o: dict[str, Any]) -> Ours:
    sde = process_of(case)
    n = len(case.grid) - 1
    if isinstance(sde, ss.EDM):
        return ss.EDM(0.002, 80.0), {"grid": "karras", "steps": n, "end": "zero" if case.grid[-1][2] == 0.0 else "eps"}
    return sde, {"grid": "uniform", "steps": n, "end": "eps"}


NAMED: dict[str, Callable[[Case, dict[str, Any]], Ours]] = {
    "k_diffusion": k_diffusion,
    "edm": edm,
    "dpm_solver": dpm_solver,
    "unipc": dpm_solver,
    "sa_solver": dpm_solver,
    "diff_sampler": diff_sampler,
    "deis": deis,
    "diffusers": diffusers,
    "score_sde": score_sde,
    "er_sde": er_sde,
}
# Steps that depend on the samples, or states that do not stand on the grid.
APART = ("adaptive", "likelihood")


def _named() -> list[Case]:
    return [case for case in golden().cases if not any(word in case.solver for word in APART) and _has_name(case)]


def _has_name(case: Case) -> bool:
    try:
        return NAMED[case.source](case, case.options) is not None
    except Exception:  # for the test of this case to show
        return True


@pytest.mark.parametrize("case", _named(), ids=str)
def test_recorded_grid_is_ours(case: Case) -> None:
    ours = NAMED[case.source](case, case.options)
    assert ours is not None
    sde, arguments = ours
    times = ss.get_grid(**{"sde": sde, **arguments})
    recorded = [sigma / alpha if alpha > 0 else inf for _, alpha, sigma in case.grid]
    mine = [sde.rho(t) for t in times]
    if len(recorded) == len(mine) + 1:  # the last level is repeated
        assert recorded[-1] == pytest.approx(recorded[-2], rel=1e-12)
        recorded.pop()
    # 3e-12: the recorded sigma is sqrt(1 - alpha^2) in some sources.
    assert mine == pytest.approx(recorded, rel=3e-12, abs=0.0)


LEADING_BY_DEFAULT = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler")
# These leave a stride out at the data end.
SPARE = ("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep", "SASolver")
SPACED_BY_INDEX = (*SPARE, "DDIMS", "DDPMS", "PNDM", "Euler", "Heun", "LMS", "KDPM2")


def timesteps(case: Case) -> list[float] | None:
    """The indices of the trained table that our grid of a scheduler's spacing stands for; None if it has another."""
    made, n = case.options["constructor"], case.options["num_inference_steps"]
    special = (*BY_SIGMA, "use_flow_sigmas", "rescale_betas_zero_snr", "lambda_min_clipped")
    if not case.solver.startswith(SPACED_BY_INDEX) or any(made.get(o) for o in special) or case.info["nfe"] != n:
        return None
    table = named_process(case)
    assert isinstance(table, ss.DiscreteVP)
    spare = case.solver.startswith(SPARE)
    spacing = made.get("timestep_spacing", "leading" if case.solver in LEADING_BY_DEFAULT else "linspace")
    if spacing == "leading":
        strides = n + spare
        whole = strides * (table.n // strides) / table.n  # the stride is rounded down
        offset = made.get("steps_offset", 0)
        times = ss.get_grid("ddim-leading", table, n, start=whole, offset=offset, spare=int(spare))
    else:
        names = {"trailing": "trailing", "linspace": "sgm-uniform" if spare else "normal"}
        times = ss.get_grid(names[spacing], table, n)
    return [t * table.n - 1 for t in times[:-1]]


def _spaced_by_index(case: Case) -> bool:
    try:
        return timesteps(case) is not None
    except Exception:  # for the test of this case to show
        return True


@pytest.mark.parametrize(
    "case", [case for case in golden().cases if case.source == "diffusers" and _spaced_by_index(case)], ids=str
)
def test_recorded_timesteps_of_diffusers_are_ours_rounded(case: Case) -> None:
    recorded = [t for t, *_ in case.grid[: case.options["num_inference_steps"]]]
    assert timesteps(case) == pytest.approx(recorded, abs=0.5 + 1e-6)
