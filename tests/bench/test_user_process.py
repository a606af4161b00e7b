"""A network under other processes than its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import scoresde as ss
from scoresde.bench.problems.process import Carried, under
from scoresde.noise import normal
from scoresde.targets import GaussianMixture


@pytest.mark.parametrize("theirs", [ss.VP(), ss.EDM(), ss.RectifiedFlow()], ids=lambda sde: sde.name)
@pytest.mark.parametrize("ours", [ss.VP(T=0.9), ss.EDM(), ss.RectifiedFlow(T=0.98)], ids=lambda sde: sde.name)
def test_a_network_under_another_process_is_the_exact_one(theirs: ss.SDE, ours: ss.SDE):
    target = GaussianMixture.five()
    carried, wanted = under(target.denoiser(theirs), ours), target.denoiser(ours)
    x = normal((5, 2), 3, dtype=torch.float64)
    times = [ours.T, 0.4 * ours.T, ours.eps]
    for t in times:
        state = target.sample(5) * ours.alpha(t) + x * ours.sigma(t)
        for kind in ("x0", "epsilon", "v", "flow", "score"):
            got, exact = carried.predict(state, t, kind), wanted.predict(state, t, kind)
            assert torch.allclose(got, exact, rtol=1e-6, atol=1e-7), (kind, t)
        found = carried.evaluate(state, t)
        assert torch.allclose(
            carried.converted(state, t, found.prediction, found.kind, "x0"), wanted(state, t), rtol=1e-6
        )
    several = torch.tensor([*times, *times[:2]], dtype=torch.float64)
    alpha, sigma = (f(several)[:, None] for f in (ours.alpha, ours.sigma))
    states = target.sample(5) * alpha + x * sigma
    assert torch.allclose(carried(states, several), wanted(states, several), rtol=1e-6, atol=1e-7)
    assert under(carried, ours) is carried


def test_what_a_network_predicts_comes_through():
    for kind, told in (("epsilon", "epsilon"), ("x0", "x0"), ("v", "x0")):
        inner = ss.Denoiser(lambda x, t: x, ss.VP(), kind)
        assert Carried(inner, ss.EDM()).evaluate(torch.ones(1, 1), 1.0).kind == told


def test_a_noisier_process_is_refused_with_where_to_begin():
    net = ss.Denoiser(lambda x, t: x, ss.EDM(sigma_max=50.0), "x0")
    for sde, option in ((ss.RectifiedFlow(), "T"), (ss.VP(), "T"), (ss.EDM(), "sigma_max")):
        with pytest.raises(
            ValueError, match=rf"knows noise up to 50: begin there, with the option {option} ="
        ) as error:
            under(net, sde)
        value = float(str(error.value).rpartition(" ")[2])
        assert isinstance(under(net, replace(sde, **{option: value})), Carried)  # type: ignore[type-var]
