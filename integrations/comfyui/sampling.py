"""The one sampler function: any solver of scoresde along ComfyUI's sigmas, on the process that the model has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scoresde import LazyPlan, LazySolver, Plan, Point, Solver, get_solver, make_plan
from scoresde.integrations.k_diffusion.progress import bar
from scoresde.rows import Row, Step

from .levels import Levels

Callback = Callable[[dict[str, Any]], Any]


def sample_scoresde(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    solver: str | Solver | LazySolver,
    noise: str = "independent",
    most_gain: float | None = None,
) -> Tensor:
    """Sample, as the functions of comfy.k_diffusion.sampling do.

    Args:
        model: KSAMPLER's: ``model(x, sigma, **extra_args)`` gives the denoised sample, guided and masked.
        x: the state at ``sigmas[0]``, (B, ...), as KSAMPLER has scaled it.
        sigmas: falling noise levels of the model, float32 (N + 1,); equal neighbours count as one.
        extra_args: ComfyUI's ``model_options``, ``seed`` and ``denoise_mask``. Noise of sample b depends on (seed, b).
        callback: called once a step with x, i, sigma, sigma_hat and denoised.
        disable: no progress bar.
        solver: a solver of the catalogue, or its name.
        noise: "independent", or "path" for one Brownian path a sample, whatever the sigmas: two stages with one seed
            then have the noise of one.
        most_gain: as of :func:`scoresde.plan_for`; None for the solver's own limit, math.inf for none.

    Returns:
        The state at ``sigmas[-1]``, (B, ...).

    Raises:
        ValueError: sigmas that rise or that the model does not have; a Brownian path of an adaptive solver; at the end,
            predictions that are not finite.
    """
    extra_args = dict(extra_args or {})
    solver = get_solver(solver) if isinstance(solver, str) else solver
    if isinstance(solver, LazySolver) and noise == "path":
        raise ValueError(f"noise='path': {solver.name} chooses its steps on the way and follows no path")
    levels = Levels.of(model.inner_model.inner_model.model_sampling, sigmas)
    places, times = _steps(sigmas.tolist(), levels)
    if len(times) < 2:
        return x
    plan, begins = _planned(solver, levels, times, most_gain)
    guided = _Guided(model, extra_args, isinstance(plan, Plan) and any(row.pair for row in plan.rows))
    run = plan.start(x, extra_args.get("seed") or 0, noise=None if isinstance(plan, LazyPlan) else noise)
    done = 0
    with torch.no_grad(), bar(len(times) - 1, disable) as advance:
        while not run.done:
            state, t, step = run.x, run.t, begins(run.nfe, run.t)
            sigma = run.point.sigma / levels.sde.noise_scale
            denoised, unconditional = guided(state, state.new_full(state.shape[:1], sigma))
            if step is not None and callback is not None:
                at = sigmas[places[step]]
                hat = at if t == times[step] else at.new_full((), sigma)
                callback({"x": state, "i": places[step], "sigma": at, "sigma_hat": hat, "denoised": denoised})
            for _ in range(done, step or 0):
                advance()
            done = max(done, step or 0)
            run.tell(denoised, unconditional=unconditional)
        for _ in range(done, len(times) - 1):
            advance()
    return run.sample


def settings_of(sampler: Any) -> dict[str, Any]:
    """What a SAMPLER of scoresde was made with: solver, noise, most_gain.

    Raises:
        ValueError: it is not one.
    """
    function = getattr(sampler, "sampler_function", None)
    given = {**getattr(function, "keywords", {}), **getattr(sampler, "extra_options", {})}
    if getattr(function, "func", function) is not sample_scoresde:
        raise ValueError("sampler must be one of scoresde: of the node 'scoresde Sampler', or named scoresde_...")
    given["solver"] = get_solver(given["solver"]) if isinstance(given["solver"], str) else given["solver"]
    return given


def _steps(sigmas: Sequence[float], levels: Levels) -> tuple[list[int], tuple[float, ...]]:
    """The indices of the sigmas that begin a step or end the last one, and their times."""
    times = levels.times(sigmas)
    places: list[int] = []
    for i, sigma in enumerate(sigmas):
        if i and sigma > sigmas[i - 1]:
            raise ValueError(
                f"sigmas must fall: sigmas[{i}]={sigma:g} after {sigmas[i - 1]:g}; scoresde's solvers go from noise to "
                "data only"
            )
        if i and sigma == sigmas[i - 1]:
            places.pop()  # a step that begins at the last of equals
        places.append(i)
    return places, tuple(times[i] for i in places)


def _planned(
    solver: Solver | LazySolver, levels: Levels, times: Sequence[float], most_gain: float | None
) -> tuple[Plan | LazyPlan, Callable[[int, float], int | None]]:
    """The plan, and which step the evaluation of a number at a time begins, if it begins one."""
    if isinstance(solver, LazySolver):
        last = -1

        def entered(evaluation: int, t: float) -> int | None:
            # Its steps are its own: a step of the sigmas begins with the first evaluation below its first level.
            nonlocal last
            step = min(sum(t <= time for time in times), len(times) - 1) - 1
            last, before = max(step, last), last
            return step if step > before else None

        return make_plan(solver, levels.sde, times), entered
    marked = _Marked(solver)
    limit = solver.most_gain if most_gain is None else most_gain
    plan = make_plan(marked, levels.sde, times, most_gain=limit)  # type: ignore[arg-type]
    begins = marked.begins(plan)
    return plan, lambda evaluation, t: begins.get(evaluation)


class _Marked:
    """A solver, every evaluation of which has a point of its own, by which its step is known in the plan."""

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self._steps: dict[int, tuple[int, Point]] = {}  # by identity; the points are kept, so that none is reused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._solver, name)

    def rows(self, step: Step) -> list[Row]:
        """Those of the solver; a step may be asked for again, with a lower order."""
        rows = [row if row.at is None else row._replace(at=Point(*row.at)) for row in self._solver.rows(step)]
        self._steps |= {id(row.at): (step.index, row.at) for row in rows if row.at is not None}
        return rows

    def begins(self, plan: Plan) -> dict[int, int]:
        """The evaluations at which steps begin, and the numbers of these steps."""
        found: dict[int, int] = {}
        step = -1
        for evaluation, at in enumerate(row.at for row in plan.rows if row.at is not None):
            # A step that is too long for the solver is DDIM's, in one evaluation that nothing has marked.
            of, _ = self._steps.get(id(at), (step + 1, at))
            if of > step:
                found[evaluation] = step = of
        return found


class _Guided:
    """The model, and for CFG++ what it predicts without the prompt."""

    def __init__(self, model: Any, extra_args: dict[str, Any], pair: bool) -> None:
        self._model, self._extra_args, self._pair = model, extra_args, pair
        self._caught: tuple[Tensor, Tensor] | None = None
        if pair:
            from comfy.model_patcher import (  # pyright: ignore[reportMissingImports]
                set_model_options_post_cfg_function,
            )

            options = dict(extra_args.get("model_options", {}))
            extra_args["model_options"] = set_model_options_post_cfg_function(
                options, self._catch, disable_cfg1_optimization=True
            )

    def _catch(self, args: dict[str, Any]) -> Tensor:
        # Without a negative prompt (BasicGuider) ComfyUI calls zeros the prediction: there is no guidance then.
        guided = args.get("uncond", ()) is not None
        self._caught = (args["denoised"], args["uncond_denoised"]) if guided else None
        return args["denoised"]

    def __call__(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor | None]:
        denoised = self._model(x, sigma, **self._extra_args)
        caught, self._caught = self._caught, None
        if caught is None:
            return denoised, None
        guided, unconditional = caught
        mask = self._extra_args.get("denoise_mask")
        if mask is not None:  # both are masked alike: the image that is kept is in both
            options = self._extra_args["model_options"]
            if "denoise_mask_function" in options:
                extra = {"model": self._model.inner_model, "sigmas": self._model.sigmas}
                mask = options["denoise_mask_function"](sigma, mask, extra_options=extra)
            unconditional = denoised + (unconditional - guided) * mask
        return denoised, unconditional
