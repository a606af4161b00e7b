"""k-diffusion's adaptive DPM-Solver, with what it says of each attempted step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scoresde.adaptive import PID, AdaptiveDPM
from scoresde.adaptive.control import Controller, Verdict
from scoresde.integrations.k_diffusion.call import Call, Callback
from scoresde.integrations.k_diffusion.noise import NoiseSampler
from scoresde.integrations.k_diffusion.samplers import ExtraArgs, check_range
from scoresde.sde import SDE, Point


def sample_dpm_adaptive(
    model: Any,
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    pcoeff: float = 0.0,
    icoeff: float = 1.0,
    dcoeff: float = 0.0,
    accept_safety: float = 0.81,
    eta: float = 0.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    return_info: bool = False,
) -> Any:
    """DPM-Solver-12 and -23 with steps of their own choice (arXiv:2206.00927, appendix C).

    The callback is called after each attempted step, with ``x``, ``sigma`` (= ``sigma_hat``) and ``t`` (= ``t_up``,
    -log sigma) where it has led, ``denoised`` of its first evaluation, ``error``, ``h`` (the next step in log sigma),
    and the counts ``steps``, ``nfe``, ``n_accept``, ``n_reject`` so far.

    Args:
        model, x, extra_args, callback, disable, eta, s_noise, noise_sampler: as of the other functions.
        sigma_min, sigma_max: where to end and to begin, both positive.
        order: 2 or 3.
        rtol, atol: tolerances of a step.
        h_init: the first step.
        pcoeff, icoeff, dcoeff, accept_safety: of the controller, :class:`scoresde.adaptive.PID`.
        return_info: return a pair of the sample and a dict of the counts.
    """
    between = check_range(sigma_min, sigma_max)
    call = Call(model, x, [between.sigma_max, between.sigma_min], extra_args, callback, disable)
    attempts = Attempts(PID(pcoeff, icoeff, dcoeff, accept_safety), h_init)
    solver = _Watched(
        order,
        rtol=rtol,
        atol=atol,
        h_init=h_init,
        controller=attempts,
        norm="batch",
        eta=eta,
        s_noise=s_noise,
        reuse=False,
        max_nfe=None,
        attempts=attempts,
    )
    draw = call.draw(noise_sampler)
    first: Tensor | None = None

    def tell_of_last(x: Tensor, level: float) -> None:
        if call.callback is not None and first is not None:
            sigma = call.sigma(level)
            t = -sigma.log()
            common = {"x": x, "i": attempts.steps - 1, "t": t, "t_up": t, "denoised": first}
            call.callback({"sigma": sigma, "sigma_hat": sigma, **common, **attempts.last, **attempts.info(order)})

    def report(i: int, x: Tensor, level: float, denoised: Tensor) -> None:
        nonlocal first
        if i % order == 0:
            tell_of_last(x, level)
            first = denoised

    process = call.sde(None if eta else "edm")
    run = solver.plan(process, call.levels).start(call.x, noise=lambda k: draw(k, *attempts.between))
    sample = call.drive(run, lambda evaluation: evaluation, report, None)
    tell_of_last(sample, call.levels[-1])
    return (sample, attempts.info(order)) if return_info else sample


class Attempts(Controller):
    """A controller that keeps an account of what it is asked and says."""

    suffix = PID.suffix

    def __init__(self, controller: PID, h: float) -> None:
        self.controller, self.h = controller, h
        self.steps = self.accepted = 0
        self.last: dict[str, Any] = {}
        self.between: tuple[Point, Point]  # of the step that is being attempted

    def judge(self, error: float, past: tuple[float, ...], order: float) -> Verdict:
        """See :class:`scoresde.adaptive.Controller`."""
        verdict = self.controller.judge(error, past, order)
        self.steps += 1
        self.accepted += verdict.accept
        self.h *= verdict.factor
        self.last = {"error": torch.tensor(error), "h": self.h}
        return verdict

    def info(self, order: int) -> dict[str, int]:
        """The counts so far."""
        rejected = self.steps - self.accepted
        return {"steps": self.steps, "nfe": order * self.steps, "n_accept": self.accepted, "n_reject": rejected}


@dataclass(frozen=True)
class _Watched(AdaptiveDPM):
    """Notes where each step is attempted."""

    attempts: Attempts = field(default_factory=lambda: Attempts(PID(), 0.0), compare=False)

    def _aim(self, sde: SDE, s: Point, t: Point, end: Point) -> Point:
        self.attempts.between = (s, t)
        return super()._aim(sde, s, t, end)
