"""CFG++: the formulas of the paper and of ComfyUI, and plans that keep pairs of predictions."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.denoiser import BaseDenoiser, Evaluation
from scoresde.solvers import DDIM, Adams, CFGpp
from scoresde.solvers.cooling import ancestral
from scoresde.targets import Gaussian

EDM = ss.EDM()
SIGMAS = [10.0, 4.0, 1.5, 0.4, 0.0]


class Guided(BaseDenoiser):
    """Two linear denoisers, the guided one extrapolated; evaluate gives both."""

    def __init__(self, sde: ss.SDE, scale: float = 1.6) -> None:
        def denoiser(mean: float, variance: float) -> BaseDenoiser:
            return Gaussian(torch.full((3,), mean), torch.full((3,), variance)).denoiser(sde)

        self.sde, self.scale = sde, scale
        self.with_condition, self.without = denoiser(1.0, 0.2), denoiser(0.0, 1.0)

    def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        return self.evaluate(x, t)[0]

    def evaluate(self, x: Tensor, t: float | Tensor, **cond: Any) -> Evaluation:
        u = self.without(x, t)
        return Evaluation(u + self.scale * (self.with_condition(x, t) - u), "x0", u)


def start() -> Tensor:
    return 10.0 * torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def sample(name: str, denoiser: BaseDenoiser, grid: list[float] = SIGMAS) -> Tensor:
    return ss.sample(denoiser, (4, 3), solver=name, grid=grid, x_T=start())


def test_ddim_is_algorithm_2_of_the_paper() -> None:
    """Written out for a variance-preserving process."""
    sde = ss.VP()
    denoiser, grid = Guided(sde), [1.0, 0.6, 0.3, 0.05]
    x = start()
    for s, t in pairwise(map(sde.point, grid)):
        guided, _, unconditional = denoiser.evaluate(x, s.t)
        assert unconditional is not None
        x = t.alpha * guided + t.sigma * (x - s.alpha * unconditional) / s.sigma
    assert torch.allclose(sample("ddim-cfgpp", denoiser, grid), x, atol=1e-12)


def comfy_2m(denoiser: Guided, x: Tensor) -> Tensor:
    """DPM++ 2M CFG++, in the EDM variable."""
    old: Tensor | None = None
    for i, (s, t) in enumerate(pairwise(SIGMAS)):
        guided, _, unconditional = denoiser.evaluate(x, s)
        assert unconditional is not None
        kept = t / s
        mix = -kept * unconditional
        if old is not None and t > 0:
            r = math.log(SIGMAS[i - 1] / s) / math.log(s / t)
            mix = mix + (1 - kept) / (2 * r) * (guided - old)
        x, old = guided + mix + kept * x, unconditional
    return x


def comfy_res(denoiser: Guided, x: Tensor) -> Tensor:
    """res_multistep CFG++, in the EDM variable, with the weights b1, b2 of its exponential Adams step."""
    old: Tensor | None = None
    for i, (s, t) in enumerate(pairwise(SIGMAS)):
        guided, _, unconditional = denoiser.evaluate(x, s)
        assert unconditional is not None
        if old is None or t == 0:
            x = guided + t / s * (x - unconditional)
        else:
            h, before = math.log(s / t), math.log(s / SIGMAS[i - 1])
            phi1 = -math.expm1(-h) / h
            phi2 = (phi1 - 1) / -h
            b2 = phi2 / (before / h)
            x = math.exp(-h) * (x + guided - unconditional) + h * ((phi1 - b2) * unconditional + b2 * old)
        old = unconditional
    return x


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [("dpmpp_2m_cfg_pp", comfy_2m), ("res_multistep_cfg_pp", comfy_res)],
)
def test_multistep_is_comfyui(name: str, by_hand: Any) -> None:
    denoiser = Guided(EDM)
    assert torch.allclose(sample(name, denoiser), by_hand(denoiser, start()), atol=1e-12)


def test_singlestep_ancestral_is_comfyui() -> None:
    denoiser, solver = Guided(EDM), ss.get_solver("dpmpp_2s_ancestral_cfg_pp")
    plan = ss.make_plan(solver, EDM, SIGMAS)
    draws = [torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7 + k)) for k in range(3)]
    run = plan.start(start(), noise=lambda k: draws[k])
    while not run.done:
        run.tell(*denoiser.evaluate(run.x, run.t))
    x = start()
    for i, (s, t) in enumerate(pairwise(SIGMAS)):
        guided, _, unconditional = denoiser.evaluate(x, s)
        assert unconditional is not None
        if t == 0:
            x = guided
            continue
        kept, renewed = ancestral(math.log(s / t), 1.0)
        down = kept * t
        shifted, middle = x + guided - unconditional, math.sqrt(s * down)
        inner = denoiser(middle / s * shifted + (1 - middle / s) * guided, middle)
        x = down / s * shifted + (1 - down / s) * inner + t * renewed * draws[i]
    assert torch.allclose(run.sample, x, atol=1e-11)


@pytest.mark.parametrize("name", [name for name, s in ss.solvers().items() if isinstance(s, CFGpp)])
def test_without_guidance_it_is_the_inner_solver(name: str) -> None:
    solver = ss.get_solver(name)
    assert isinstance(solver, CFGpp)
    denoiser = Gaussian(torch.zeros(3), torch.ones(3)).denoiser(EDM)
    ours = ss.sample(denoiser, (4, 3), solver=solver, grid=SIGMAS, seed=3, x_T=start())
    inner = ss.sample(denoiser, (4, 3), solver=solver.inner, grid=SIGMAS, seed=3, x_T=start())
    assert torch.allclose(ours, inner, atol=1e-12)


def test_plans_of_pairs_are_saved_shown_and_proven() -> None:
    plan = ss.make_plan("dpmpp-2m-cfgpp", EDM, SIGMAS)
    again = ss.Plan.from_json(plan.to_json())
    assert again == plan
    A, B, C = plan.matrices()
    assert B.shape == (5, 7)  # three pairs, and DDIM into sigma = 0
    assert (A.shape, C.shape) == ((5,), (5, 0))
    # The guided and the unconditional weights of a row add up to the inner solver's.
    inner = ss.make_plan("dpmpp-2m", EDM, SIGMAS).matrices().B
    together = torch.cat([B[:, :6].reshape(5, 3, 2).sum(-1), B[:, 6:]], dim=1)
    assert torch.allclose(together, inner, atol=1e-12)
    assert B[:, 1:6:2].abs().max() > 0.1


def test_a_bad_unconditional_prediction_is_named() -> None:
    run = ss.make_plan("ddim-cfgpp", EDM, SIGMAS).start(start())
    good = torch.zeros(4, 3, dtype=torch.float64)
    for i in range(4):
        run.tell(good, "x0", torch.full_like(good, math.nan) if i == 2 else good)
    with pytest.raises(ValueError, match="evaluation 2 of 4"):
        _ = run.sample
    with pytest.raises(ValueError, match="shape"):
        ss.make_plan("ddim-cfgpp", EDM, SIGMAS).start(start()).tell(good, "x0", good[:1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CFGpp(ss.get_solver("heun")), "inner must be a solver in data prediction"),
        (lambda: CFGpp(CFGpp()), "inner must be a solver in data prediction"),
        (lambda: CFGpp(Adams(4, start="runge-kutta")), "not both"),
        (lambda: CFGpp(DDIM(), newest="old"), "newest='old' is unknown"),
    ],
)
def test_bad_options(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
