"""The golden targets themselves: our exact denoisers and flows against values computed in extended precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde.sde import Point
from tests.golden.processes import SCHEDULES, named_process
from tests.golden.store import golden


def _array(where: str) -> Tensor:
    return torch.from_numpy(golden().array(where))


@pytest.mark.parametrize("name", golden().targets)
def test_denoiser_and_density_at_the_test_vectors(name: str) -> None:
    target, at = golden().target(name), f"targets.npz:{name}/check_"
    for i, (alpha, sigma) in enumerate(_array(at + "alpha_sigma").tolist()):
        x, x0, epsilon, log_p = (_array(at + what)[i] for what in ("x", "denoised", "eps", "logp"))
        torch.testing.assert_close(target.x0(x, alpha, sigma), x0, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(-sigma * target.score(x, alpha, sigma), epsilon, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(target.log_prob(x, alpha, sigma), log_p, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("ref", golden().manifest["ode_references"])
def test_probability_flow_reaches_the_reference(ref: str) -> None:
    facts: dict[str, Any] = golden().manifest["ode_references"][ref]
    exact = _array(f"ode_reference.npz:{ref}")
    begin = Point(1.0, facts["alpha_start"], facts["sigma_start"])
    end = Point(0.0, facts["alpha_end"], facts["sigma_end"])
    # Initial states are the unit draws times the first sigma, listed under a name of their own or not.
    own = f"targets.npz:{facts['x_start']}"
    x = _array(own) if golden().has(own) else _array(f"targets.npz:{facts['target']}/xT_unit") * begin.sigma
    got = golden().target(facts["target"]).flow(x[: len(exact)], begin, end)
    torch.testing.assert_close(got, exact, rtol=0.0, atol=1e-11 * max(1.0, exact.abs().max().item()))


def test_betas_are_those_of_the_tables() -> None:
    """A table that a schedule spells out in numbers is the one that the folder ships."""
    shipped = {k: _array(f"targets.npz:schedules/{k}_betas") for k in ("ddpm", "sd")}
    tables = [torch.cumprod(1 - betas, 0) for betas in shipped.values()]
    seen = {case.schedule: case for case in golden().cases if case.schedule.startswith("VP discrete")}
    for case in seen.values():
        alphas2 = torch.tensor(named_process(case).config()["alphas_cumprod"], dtype=torch.float64)
        off = [float((alphas2 - t).abs().max()) for t in tables if len(t) == len(alphas2)]
        assert "cosine" in case.schedule or min(off) < 1e-15
    assert SCHEDULES
