"""The law of the sample on a one-dimensional mixture: its bias falls with the declared weak order, towards the truth.

Expectations of samples with n and 2n steps on the same Brownian paths differ by far less than their own deviation, so
that a quarter of a million samples show the bias and not the noise. Every limit below has the standard error in it.
"""

import math

import pytest
import torch
from torch import Tensor

import scoresde as ss
from tests.driven import Pair, StoredPath, drive
from tests.problems import STOCHASTIC

SDE, PAIR, SHAPE = ss.VP(), Pair(), (64, 4096)
START, END = SDE.point_at_lam(-3.0), SDE.point_at_lam(1.5)
STEPS = (16, 32, 64)
NOT_CONVERGENT = {"sde-dpmpp-3m-diffusers": "its recursion is unstable between modes (see MultistepDPM)"}

pytestmark = pytest.mark.slow


def grid(steps: int) -> tuple[float, ...]:
    return ss.get_grid("log-snr", SDE, steps, start=START.t, end=END.t)


def measured(x: Tensor) -> Tensor:
    """Mean, second moment, how often near 0, and (smoothly) on which side: (4, samples)."""
    return torch.stack([x, x * x, torch.cos(2 * x), torch.tanh(3 * x)]).flatten(1)


class Shared:
    """Paths with points at the stages of methods with so many noises a step, at equal parts of it."""

    def __init__(self, parts: int, shape: tuple[int, ...]) -> None:
        self.path = StoredPath(SDE, grid(parts * STEPS[-1]), shape, seed=5)
        self.x_T = PAIR.draw(START, shape, seed=2)
        self.exact = PAIR.expect(measured, END)

    def values(self, solver: ss.Solver) -> list[Tensor]:
        plans = (ss.make_plan(solver, SDE, grid(n)) for n in STEPS)
        return [measured(drive(plan, PAIR.predict, self.x_T, self.path)) for plan in plans]


@pytest.fixture(scope="module")
def shared() -> Shared:
    return Shared(2, SHAPE)


def mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.mean(-1), values.std(-1) / math.sqrt(values.shape[-1])


def solver_of(name: str) -> ss.Solver:
    # By default, churn is at its limit up to 96 steps and only then shared out among them.
    return ss.get_solver(name, **({"s_churn": 4.0} if name.endswith("churn") else {}))


@pytest.mark.parametrize("name", [n for n, s in STOCHASTIC.items() if s.converges and n not in NOT_CONVERGENT])
def test_the_bias_falls_with_the_weak_order(name: str, shared: Shared) -> None:
    solver = solver_of(name)
    shared = shared if solver.noises <= 2 else Shared(solver.noises, (16, 4096))
    coarse, middle, fine = shared.values(solver)
    (first, noise_1), (second, noise_2) = (mean_and_error(a - b) for a, b in ((coarse, middle), (middle, fine)))
    falls = 2.0 ** (solver.converges - 0.25)
    assert second.norm() <= first.norm() / falls + 3 * (noise_1.norm() / falls + noise_2.norm())
    # What is left at the finest grid, summed as a geometric series, is all that separates it from the truth.
    got, noise = mean_and_error(fine)
    rest = second.abs() / (2.0 ** (solver.converges - 0.25) - 1)
    assert ((got - shared.exact).abs() <= rest + 4 * noise).all()


def test_a_weak_order_of_1_is_not_taken_for_2(shared: Shared) -> None:
    """The check has teeth: the noise is small enough to tell the orders apart."""
    for name in ("euler-maruyama", "ddpm", "er-sde-1", "ddpm-large"):
        coarse, middle, fine = shared.values(ss.get_solver(name))
        (first, _), (second, noise) = (mean_and_error(a - b) for a, b in ((coarse, middle), (middle, fine)))
        assert second.norm() > 10 * noise.norm()
        assert second.norm() > first.norm() / 2**1.5


def test_independent_stages_cost_dpmpp_sde_an_order(shared: Shared) -> None:
    (coupled, _), (independent, noise) = (
        mean_and_error(middle - fine)
        for _, middle, fine in (shared.values(ss.get_solver("dpmpp-sde", coupling=c)) for c in ("sigma", "independent"))
    )
    assert independent.norm() > 5 * coupled.norm()
    assert independent.norm() > 10 * noise.norm()


@pytest.mark.parametrize("name", NOT_CONVERGENT)
def test_what_does_not_converge_keeps_its_bias(name: str) -> None:
    """Four times the steps do not make the bias smaller, which is many standard errors."""
    shape = (16, 4096)
    path, x_T, biases = StoredPath(SDE, grid(512), shape, seed=5), PAIR.draw(START, shape, seed=2), []
    for steps in (64, 256):
        got = drive(ss.make_plan(name, SDE, grid(steps)), PAIR.predict, x_T, path)
        mean, noise = mean_and_error(measured(got))
        biases.append(mean - PAIR.expect(measured, END))
    assert (biases[1].abs() > 8 * noise).any()
    assert biases[1].norm() > biases[0].norm()
