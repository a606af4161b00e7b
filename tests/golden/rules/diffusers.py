"""Schedulers of diffusers."""

from __future__ import annotations

from itertools import pairwise

from scoresde.rows import Solver
from scoresde.solvers import DDIM, PNDM, Adams, MultistepDPM, RungeKutta, SASolver, SinglestepDPM, UniPC
from tests.golden.processes import NotYet, process_of, times_at
from tests.golden.reading import (
    Options,
    Pairs,
    Reading,
    Rule,
    a_draw_each_step,
    along,
    inner_points,
    joined,
    lower_last,
    no_churn,
    on_grid,
)
from tests.golden.rules.dpm_solver import DPM_KINDS, split_singlestep
from tests.golden.rules.sa_solver import SA_KINDS
from tests.golden.store import Case

SHOWN = (
    *("num_inference_steps", "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
    *("timestep_spacing", "steps_offset", "set_alpha_to_one", "final_sigmas_type", "prediction_type"),
    *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas"),
    *("flow_shift", "shift", "use_dynamic_shifting", "shift_terminal", "invert_sigmas", "interpolation_type"),
    *("timestep_type", "sigma_min", "sigma_max", "lambda_min_clipped"),
)


def _unclipped(o: Options) -> None:
    o.need("thresholding", False, False)
    o.need("rescale_betas_zero_snr", False, False)


def d_ddim(case: Case, o: Options) -> Reading:
    _unclipped(o)
    o.need("clip_sample", True, False)
    o.ignore("use_clipped_model_output")  # nothing is clipped
    sde = process_of(case)
    # The state is moved to one level and labelled with another for the next call where the spacing does not fit.
    begins, ends = times_at(sde, case.evals), times_at(sde, case.array("update_target").tolist())
    return along(sde, DDIM(o.get("eta", 0.0)), list(zip(begins, ends, strict=True)))


def d_multistep(case: Case, o: Options) -> Reading:
    _unclipped(o)
    order = o.need("solver_order", 2, 1, 2, 3)
    algorithm = o.get("algorithm_type", "dpmsolver++")
    types = {"midpoint": "midpoint", "heun": "taylor"}
    solver_type = types[o.need("solver_type", "midpoint", *types)]
    short = o.get("lower_order_final", True) and o.get("num_inference_steps", 0) < 15
    first_last = short or o.get("euler_at_final", False) or o.get("final_sigmas_type", "zero") == "zero"
    eta = float(algorithm.startswith("sde-"))
    kind = DPM_KINDS.get(algorithm.removeprefix("sde-"))
    if kind is None:
        raise NotYet(f"algorithm_type={algorithm!r}")
    last = lower_last(order) if short else (1,) if first_last and order > 1 else ()
    slip = order == 3 and eta > 0 and kind == "x0"
    return on_grid(case, MultistepDPM(order, kind, solver_type, True, last, eta, sign_slip=slip))


def d_singlestep(case: Case, o: Options) -> Reading:
    _unclipped(o)
    order = o.need("solver_order", 2, 1, 2, 3)
    kind = DPM_KINDS[o.need("algorithm_type", "dpmsolver++", *DPM_KINDS)]
    types = {"midpoint": "midpoint", "heun": "taylor"}
    solver_type = types[o.need("solver_type", "midpoint", *types)]
    n, to_zero = o.get("num_inference_steps", 0), o.get("final_sigmas_type", "zero") == "zero"
    lower = o.get("lower_order_final", False) or to_zero or n % order > 0
    orders = split_singlestep(n, order) if lower else [order] * (n // order)
    if lower and order == 2 and n % 2 == 0:
        orders[-1:] = [1, 1]
    if to_zero and orders[-1] > 1:
        orders[-1:] = [orders[-1] - 1, 1]  # the last update is of order 1, which leaves the group before it short
    sde = process_of(case)
    times = times_at(sde, case.grid)
    parts: list[tuple[Solver, Pairs]] = []
    i = 0
    for p in orders:  # each group of p nodes is one step, whose inner points are nodes of the grid
        s, t = times[i], times[i + p]
        r1, r2 = inner_points(sde, s, times[i + 1 : i + p], t)
        solver = SinglestepDPM(p, kind, r1, r2, solver_type, inner_type=solver_type)
        parts.append((solver, [(s, t)]))
        i += p
    return joined(sde, parts, by_call=True)


def d_euler(case: Case, o: Options) -> Reading:
    no_churn(o)
    return on_grid(case, RungeKutta("euler"))


def d_euler_ancestral(case: Case, o: Options) -> Reading:
    _unclipped(o)
    return on_grid(case, DDIM(1.0))


ONE_ROW_A_CALL = slice(0, -1, 2)  # of two-stage schedulers: the first call of each step


def d_heun(case: Case, o: Options) -> Reading:
    return on_grid(case, RungeKutta("heun"), rows=ONE_ROW_A_CALL)


def d_kdpm2(case: Case, o: Options) -> Reading:
    return on_grid(case, SinglestepDPM(2), rows=ONE_ROW_A_CALL)


def d_kdpm2_ancestral(case: Case, o: Options) -> Reading:
    return on_grid(case, SinglestepDPM(2, eta=1.0), rows=ONE_ROW_A_CALL)


def d_flow_euler(case: Case, o: Options) -> Reading:
    o.need("stochastic_sampling", False, False)
    return on_grid(case, RungeKutta("euler", "flow"))


def d_flow_heun(case: Case, o: Options) -> Reading:
    return on_grid(case, RungeKutta("heun", "flow"), rows=ONE_ROW_A_CALL)


def d_lms(case: Case, o: Options) -> Reading:
    return on_grid(case, Adams(o.get("order", 4), "epsilon", "clock"))


def d_deis(case: Case, o: Options) -> Reading:
    _unclipped(o)
    o.need("algorithm_type", "deis", "deis", "dpmsolver", "dpmsolver++")  # the last two are taken for the first
    o.need("solver_type", "logrho", "logrho", "midpoint", "heun", "bh1", "bh2")  # likewise
    order = o.need("solver_order", 2, 1, 2, 3)
    short = o.get("lower_order_final", True) and o.get("num_inference_steps", 0) < 15
    return on_grid(case, Adams(order, "epsilon", order_of_last_steps=lower_last(order) if short else ()))


def d_pndm(case: Case, o: Options) -> Reading:
    plms = o.get("skip_prk_steps", False)
    # A row for each call: two in the first step of PLMS, four in each of the first three of PNDM.
    start, calls = (1, 2) if plms else (3, 4)
    begins = [row for i, row in enumerate(case.grid[:-1]) if i >= start * calls or i % calls == 0]
    labels = [int(t) for t, *_ in begins]
    n = o.get("num_train_timesteps", 1000)
    jump = n // o.get("num_inference_steps", len(labels))
    if any(t - jump != u for t, u in pairwise(labels[: start + 1])) or (not plms and jump % 2):
        raise NotYet("stages of the start that are moved to one level and labelled with another")
    sde = process_of(case)
    times = times_at(sde, [*begins, case.grid[-1]])
    at = dict(zip(labels, times, strict=False))
    # As in DDIM, later steps may be moved to one level and labelled with another for the next call.
    ends = [at[t - jump] if t - jump in at else (t - jump + 1) / n if t >= jump else times[-1] for t in labels]
    solver = PNDM(start="heun" if plms else "runge-kutta")
    return along(sde, solver, list(zip(times, ends, strict=False)), by_call=True)


def d_unipc(case: Case, o: Options) -> Reading:
    _unclipped(o)
    o.need("solver_p", None, None)
    order = o.need("solver_order", 2, 1, 2, 3, 4)
    variants = {"bh1": "bh1", "bh2": "bh2", "midpoint": "bh2", "heun": "bh2", "logrho": "bh2"}
    solver = UniPC(
        order,
        variants[o.need("solver_type", "bh2", *variants)],
        "x0" if o.get("predict_x0", True) else "epsilon",
        order_of_last_steps=lower_last(order) if o.get("lower_order_final", True) else (),
        uncorrected_steps=tuple(o.get("disable_corrector", [])),
    )
    return on_grid(case, solver)


def d_sa_solver(case: Case, o: Options) -> Reading:
    _unclipped(o)
    o.need("tau_func", None, None)
    predictor, corrector = o.get("predictor_order", 2), o.get("corrector_order", 2)
    kind = SA_KINDS[o.need("algorithm_type", "data_prediction", *SA_KINDS)]
    sde = process_of(case)
    times = times_at(sde, case.grid)
    label = dict(zip(times, (t for t, *_ in case.grid), strict=True))
    solver = SASolver(
        predictor,
        corrector,
        tau=lambda p: 1.0 if 200 <= label[p.t] <= 800 else 0.0,
        tau_at="start",
        line="bh1" if kind == "x0" else "exact",
        kind=kind,
        order_of_last_steps=lower_last(max(predictor, corrector - 1)) if o.get("lower_order_final", True) else (),
    )
    return a_draw_each_step(along(sde, solver, list(pairwise(times))))


RULES: dict[str, Rule] = {
    "DDIMScheduler": d_ddim,
    "DPMSolverMultistepScheduler": d_multistep,
    "DPMSolverSinglestepScheduler": d_singlestep,
    "EulerDiscreteScheduler": d_euler,
    "EulerAncestralDiscreteScheduler": d_euler_ancestral,
    "HeunDiscreteScheduler": d_heun,
    "KDPM2DiscreteScheduler": d_kdpm2,
    "KDPM2AncestralDiscreteScheduler": d_kdpm2_ancestral,
    "FlowMatchEulerDiscreteScheduler": d_flow_euler,
    "FlowMatchHeunDiscreteScheduler": d_flow_heun,
    "LMSDiscreteScheduler": d_lms,
    "UniPCMultistepScheduler": d_unipc,
    "SASolverScheduler": d_sa_solver,
    "DEISMultistepScheduler": d_deis,
    "PNDMScheduler": d_pndm,
}
