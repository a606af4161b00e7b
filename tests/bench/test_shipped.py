"""The shipped networks as targets of the benchmark."""

from __future__ import annotations

import pytest
import torch

import scoresde as ss
from scoresde.bench.problems import PatchesProblem, make_problem
from scoresde.bench.suite import choice
from scoresde.noise import normal


def test_patches_are_compared_with_the_photographs_that_they_were_learnt_from():
    problem = make_problem(choice("patches"))
    assert isinstance(problem, PatchesProblem)
    assert problem.data.shape == problem.other_data.shape == (2000, 3, 32, 32)
    assert problem.data.dtype == torch.float64
    assert not torch.equal(problem.data[0], problem.other_data[0])
    assert problem.features(problem.data[:5]).shape == (5, 57)
    assert problem.cond(0, 5) == {}
    assert problem.classes_of(5) is None
    assert len(problem.shown_data) >= 10
    pictures = problem.picture(problem.shown_data)
    assert pictures is not None
    assert pictures.shape == (10, 32, 32, 3)
    assert problem.fingerprint != make_problem(choice("digits")).fingerprint


@pytest.mark.slow
def test_patches_serve_every_process_and_have_a_converged_solution():
    problem = make_problem(choice("patches"))
    x = normal((2, *problem.shape), 0, dtype=torch.float64)
    edm, vp = ss.EDM(), ss.VP()
    solved = [problem.converged(sde, x * sde.prior_std(), sde.T, 0.0) for sde in (edm, vp)]
    # The two begin at different noise levels, so they are near, not equal.
    assert (solved[0] - solved[1]).square().mean().sqrt() < 0.2
    assert solved[0].abs().max() < 1.5
