"""k-diffusion's sampling functions, each with the signature it has there.

All take ``model`` (``model(x, sigma, **extra_args)`` gives the denoised sample; see
:class:`~scoresde.integrations.k_diffusion.Model`), ``x``, the noisy start (B, ...) at the noise level ``sigmas[0]``,
``sigmas``, strictly decreasing noise levels (N + 1,), usually ending in 0, and

- ``extra_args``: keywords of the model;
- ``callback``: called in each step, at its first evaluation, with a dict of ``x`` (the state), ``i`` (the number of the
  step), ``sigma``, ``sigma_hat`` (the level of the evaluation, higher than sigma where churn has added noise) and
  ``denoised``;
- ``disable``: True for no progress bar, None for one on a terminal only (of tqdm or rich, if there is one);
- ``eta``, ``s_noise``: the share of the full noise of an ancestral or reverse-SDE step, and a factor on it;
- ``noise_sampler``: ``noise_sampler(sigma, sigma_next)`` gives standard normal noise like x for the way between the two
  levels, tensors (); by default ``torch.randn_like``, or a Brownian path where k-diffusion has one. What a step would
  multiply by 0 is not drawn.

They return the sample, (B, ...), in the dtype of x; half precision is accumulated in float32. Bad arguments raise
TypeError or ValueError before any work, a denoised sample that is not finite ValueError at the end.

With a model of process "flow" the stochastic functions run on rectified flow: the ancestral ones divide the noise as
ComfyUI does, the others are their own methods there. The deterministic ones are the same arithmetic on any sigmas, as
dx/dsigma = (x - denoised)/sigma on a flow too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scoresde.errors import check_positive_int, choose
from scoresde.grids import get_grid
from scoresde.integrations.k_diffusion.call import Call, Callback
from scoresde.integrations.k_diffusion.noise import NoiseSampler, one_each_step, path
from scoresde.rows import Row, Solver, Step
from scoresde.sde import EDM
from scoresde.solvers import DDIM, Adams, Churn, DPMppSDE, MultistepDPM, RungeKutta, SinglestepDPM
from scoresde.solvers.cooling import ancestral, renewing_rows

ExtraArgs = Mapping[str, Any] | None
SOLVER_TYPES = {"midpoint": "midpoint", "heun": "taylor"}


def sample_euler(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """Algorithm 2 of Karras et al. 2022 (arXiv:2206.00364) with Euler steps.

    Args:
        model, x, sigmas, extra_args, callback, disable: see the module.
        s_churn: total amount of churn.
        s_tmin, s_tmax: the noise levels between which there is churn.
        s_noise: factor on the noise that it adds.
    """
    call = Call(model, x, sigmas, extra_args, callback, disable)
    return _churned(call, RungeKutta("euler"), s_churn, s_tmin, s_tmax, s_noise)


def sample_heun(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """Algorithm 2 of Karras et al. 2022 (arXiv:2206.00364), Heun steps; arguments as of :func:`sample_euler`."""
    call = Call(model, x, sigmas, extra_args, callback, disable)
    return _churned(call, RungeKutta("heun"), s_churn, s_tmin, s_tmax, s_noise)


def sample_dpm_2(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """DPM-Solver-2 (Lu et al. 2022, arXiv:2206.00927) with churn; arguments as of :func:`sample_euler`."""
    call = Call(model, x, sigmas, extra_args, callback, disable)
    return _churned(call, SinglestepDPM(2), s_churn, s_tmin, s_tmax, s_noise)


def sample_lms(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    order: int = 4,
) -> Tensor:
    """Linear multistep, Adams–Bashforth in sigma with exact weights.

    Args:
        model, x, sigmas, extra_args, callback, disable: see the module.
        order: predictions that a step mixes, 1 to 9.
    """
    call = Call(model, x, sigmas, extra_args, callback, disable)
    return call.solve(Adams(order, "epsilon", "clock"), call.draw(None), process="edm")


def sample_dpmpp_2m(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, Algorithm 2); arguments: see the module."""
    call = Call(model, x, sigmas, extra_args, callback, disable)
    return call.solve(MultistepDPM(2), call.draw(None), process="edm")


def sample_euler_ancestral(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, arXiv:2006.11239; DDIM with eta); arguments: see the module."""
    call = Call(model, x, sigmas, extra_args, callback, disable)
    return call.solve(DDIM(eta, s_noise, _renewal(call)), call.draw(noise_sampler))


def sample_dpm_2_ancestral(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """Ancestral sampling with steps of DPM-Solver-2 (arXiv:2206.00927); arguments: see the module."""
    call = Call(model, x, sigmas, extra_args, callback, disable)
    return call.solve(SinglestepDPM(2, eta=eta, s_noise=s_noise, renewal=_renewal(call)), call.draw(noise_sampler))


def sample_dpmpp_2s_ancestral(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """Ancestral sampling with steps of DPM-Solver++(2S) (arXiv:2211.01095); arguments: see the module."""
    call = Call(model, x, sigmas, extra_args, callback, disable)
    solver = SinglestepDPM(2, "x0", eta=eta, s_noise=s_noise, renewal=_renewal(call))
    return call.solve(solver, call.draw(noise_sampler))


def sample_dpmpp_sde(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    r: float = 1 / 2,
) -> Tensor:
    """DPM-Solver++ (stochastic), two ancestral stages a step.

    Its two noises of a step, from its start to the inner point and to its end, must come from one Brownian path: with a
    ``noise_sampler`` that draws anew each time the sample has too little variance, here as in k-diffusion.

    Args:
        model, x, sigmas, extra_args, callback, disable, eta, s_noise, noise_sampler: see the module.
        r: the inner point, as a fraction of the step in log sigma.
    """
    call = Call(model, x, sigmas, extra_args, callback, disable)
    solver = DPMppSDE(eta, s_noise, r, coupling="independent")  # what couples them is what they are called with
    return call.solve(
        solver, call.draw(noise_sampler, path), spans=lambda step: ((step.s, step.within(r)), (step.s, step.t))
    )


def sample_dpmpp_2m_sde(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    solver_type: str = "midpoint",
) -> Tensor:
    """DPM-Solver++(2M) on the reverse SDE (arXiv:2211.01095, appendix A).

    Args:
        model, x, sigmas, extra_args, callback, disable, eta, s_noise, noise_sampler: see the module.
        solver_type: "midpoint" or "heun".
    """
    call = Call(model, x, sigmas, extra_args, callback, disable)
    kind = choose(solver_type, SOLVER_TYPES, "solver_type")
    solver = MultistepDPM(2, solver_type=kind, eta=eta, s_noise=s_noise)
    return call.solve(solver, call.draw(noise_sampler, path))


def sample_dpmpp_3m_sde(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """DPM-Solver++(3M) on the reverse SDE, as k-diffusion ships it (order 2; see
    :class:`scoresde.solvers.MultistepDPM`); arguments: see the module.
    """
    call = Call(model, x, sigmas, extra_args, callback, disable)
    solver = MultistepDPM(3, solver_type="taylor", official=True, eta=eta, s_noise=s_noise)
    return call.solve(solver, call.draw(noise_sampler, path))


def sample_dpm_fast(
    model: Any,
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    n: int,
    extra_args: ExtraArgs = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 0.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """DPM-Solver-fast (arXiv:2206.00927, section 3.4): equal steps in log sigma that fill a budget.

    The callback's dict also has ``t`` and ``t_up``, -log sigma.

    Args:
        model, x, extra_args, callback, disable, eta, s_noise, noise_sampler: see the module.
        sigma_min, sigma_max: where to end and to begin, both positive.
        n: evaluations of the model.
    """
    between = check_range(sigma_min, sigma_max)
    steps = check_positive_int(n, "n") // 3 + 1
    call = Call(model, x, get_grid("log-snr", between, steps, end="eps"), extra_args, callback, disable)
    split = SinglestepDPM(3, fast=True).for_budget(n, to_data=False)
    assert isinstance(split, SinglestepDPM)
    last = split.order_of_last_steps

    def report(i: int, x: Tensor, level: float, denoised: Tensor) -> None:
        if call.callback is not None:
            sigma = call.sigma(level)
            t = -sigma.log()
            common = {"x": x, "i": i, "t": t, "t_up": t, "denoised": denoised}
            call.callback({"sigma": sigma, "sigma_hat": sigma, **common})

    solver = _AncestralFast(3, fast=True, order_of_last_steps=last, eta=eta, s_noise=s_noise)
    process = None if eta else "edm"
    return call.solve(solver, call.draw(noise_sampler), process=process, report=report, by_evaluation=True)


@dataclass(frozen=True)
class _AncestralFast(SinglestepDPM):
    """DPM-Solver-fast whose ancestral steps aim at no colder point than the end, as k-diffusion's."""

    def rows(self, step: Step) -> Sequence[Row]:
        """The steps of the deterministic method, to the colder point."""
        plain = SinglestepDPM(3, fast=True, order_of_last_steps=self.order_of_last_steps)
        kept = max(ancestral(step.h, self.eta)[0], step.route[-1][1].rho / step.t.rho)
        if kept >= 1.0:
            return plain.rows(step)
        return renewing_rows(step, (kept, math.sqrt((1 - kept) * (1 + kept))), self.s_noise, plain.rows)


def check_range(sigma_min: float, sigma_max: float) -> EDM:
    """The process between two noise levels.

    Raises:
        ValueError: not 0 < sigma_min < sigma_max.
    """
    if not (0.0 < sigma_min < sigma_max and math.isfinite(sigma_max)):
        raise ValueError(
            f"sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}"
        )
    return EDM(float(sigma_min), float(sigma_max))


def _renewal(call: Call) -> str:
    return "flow" if call.flow else "posterior"


def _churned(call: Call, inner: Solver, s_churn: float, s_tmin: float, s_tmax: float, s_noise: float) -> Tensor:
    if s_churn == 0.0:
        return call.solve(inner, call.draw(None), process="edm")
    lowest, highest = (_rho(call, level) for level in (s_tmin, s_tmax))
    return call.solve(Churn(inner, s_churn, lowest, highest, s_noise), one_each_step(call.x))


def _rho(call: Call, level: float) -> float:
    """sigma/alpha at a level of the call's process."""
    if not call.flow:
        return level
    return level / (1.0 - level) if level < 1.0 else math.inf
