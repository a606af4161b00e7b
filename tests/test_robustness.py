"""No combination of solver, process, grid, steps, end, prediction and dtype is ever bad.

What is tried and what is bad is in benchmarks/robustness.py, which runs the whole product. Here every solver meets
every (process, end) and every grid, and every grid every (process, end) twice; the other factors are dealt like cards,
from a deck that is shuffled whenever it is empty, so that every value of a factor meets every value of every other one
(which is asserted). All five predictions are in every combination. The fast tests are two combinations of each solver.
"""

import math
from collections.abc import Iterator
from dataclasses import fields
from itertools import chain, combinations, islice, product
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import scoresde as ss
from benchmarks.robustness import (
    DTYPES,
    ENDS,
    PROCESSES,
    SOLVERS,
    STEPS,
    TARGET,
    Setting,
    is_bad,
    ratios,
    summary,
    try_all,
)
from scoresde.predictions import PREDICTIONS


def dealt(values: list, random: Random) -> Iterator:
    while True:
        yield from random.sample(values, len(values))


def hands(first: str, names: list[str], other: list[str], size: int) -> dict[str, list[dict]]:
    """For each value of one factor, so many combinations, with every (process, end) among them; the rest is dealt."""
    found = {}
    for name in names:
        random = Random(name)
        places = islice(dealt([*product(PROCESSES, ENDS)], random), size)
        rest = zip(dealt(other, random), dealt(list(STEPS), random), dealt(list(DTYPES), random), strict=True)
        second = "grid" if first == "solver" else "solver"
        found[name] = [
            {first: name, second: card, "process": process, "end": end, "steps": steps, "dtype": dtype}
            for (process, end), (card, steps, dtype) in zip(places, rest, strict=False)
        ]
    return found


OF_SOLVERS = hands("solver", list(SOLVERS), ss.grids(), size=25)
OF_GRIDS = hands("grid", ss.grids(), list(SOLVERS), size=40)


def assert_good(hand: list[dict]) -> None:
    for cards in hand:
        cards = dict(cards)
        solver = SOLVERS[cards.pop("solver")]
        found = ratios(solver, Setting(**cards))
        bad = {kind: ratio for kind, ratio in found.items() if is_bad(ratio)}
        assert not bad, f"{solver.name} on {cards}"


@pytest.mark.parametrize(
    "hand",
    [
        pytest.param(hand, id=name, marks=pytest.mark.slow if SOLVERS[name].evaluations > 1 else ())
        for name, hand in OF_SOLVERS.items()
    ],
)
def test_two_settings_of_every_solver(hand: list[dict]) -> None:
    few = {"edm": "eps", "flow": "zero"}  # whose exact solutions take time
    hard = zip(hand, few.items(), strict=False)
    assert_good([{**c, "steps": min(c["steps"], 10), "process": process, "end": end} for c, (process, end) in hard])


@pytest.mark.slow
@pytest.mark.parametrize("hand", OF_SOLVERS.values(), ids=OF_SOLVERS)
def test_every_solver(hand: list[dict]) -> None:
    assert_good(hand)


@pytest.mark.slow
@pytest.mark.parametrize("hand", OF_GRIDS.values(), ids=OF_GRIDS)
def test_every_grid(hand: list[dict]) -> None:
    assert_good(hand)


def test_every_pair_of_values_meets() -> None:
    factors = {
        "solver": SOLVERS, "grid": ss.grids(), "process": PROCESSES, "end": ENDS, "steps": STEPS, "dtype": DTYPES
    }  # fmt: skip
    hand = [cards for found in (OF_SOLVERS, OF_GRIDS) for cards in chain(*found.values())]
    for a, b in combinations(factors, 2):
        assert {(cards[a], cards[b]) for cards in hand} == set(product(factors[a], factors[b])), (a, b)


def test_the_benchmark_finds_what_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit on the gain, with a solver that raises, and with one that gives NaN."""
    setting = Setting("vp-steep", "uniform", 1, "eps", "float64")
    heun = ss.get_solver("heun")
    assert not any(map(is_bad, ratios(heun, setting).values()))
    monkeypatch.setattr(type(heun), "most_gain", math.inf)
    assert all(map(is_bad, ratios(heun, setting).values()))
    monkeypatch.setattr("benchmarks.robustness.SOLVERS", {"heun": heun})
    line = try_all(setting)
    kinds = len(PREDICTIONS)
    assert len(line["bad"]) == line["cells"] == kinds
    assert f"{kinds} combinations, {kinds} bad" in summary([line])

    def failing(self: ss.Solver, step: ss.Step) -> list[ss.Row]:
        raise ZeroDivisionError("h is 0")

    monkeypatch.setattr(type(heun), "rows", failing)
    assert set(ratios(heun, setting).values()) == {"ZeroDivisionError: h is 0"}
    assert is_bad(math.nan)


@st.composite
def processes(draw: st.DrawFn) -> ss.SDE:
    positive = st.floats(0.01, 1.0)
    own = (
        ss.VP(beta_min=draw(positive), beta_max=draw(st.floats(5.0, 40.0))),
        ss.EDM(sigma_min=draw(st.floats(1e-3, 0.1)), sigma_max=draw(st.floats(5.0, 500.0))),
        ss.RectifiedFlow(shift=draw(st.floats(0.3, 12.0))),
    )
    return draw(st.sampled_from([*PROCESSES.values(), *own]))


@st.composite
def grids(draw: st.DrawFn, sde: ss.SDE) -> list[float]:
    """Your own times, however silly: anywhere between T and eps, crowded or far apart, and down to 0 or not."""
    power = draw(st.sampled_from([0.2, 1.0, 5.0]))
    inner = draw(st.lists(st.floats(0.0, 1.0, exclude_min=True, exclude_max=True), max_size=8))
    times = [sde.T]
    for t in sorted((sde.eps + (sde.T - sde.eps) * u**power for u in inner), reverse=True):
        if times[-1] - t > 1e-11 * times[-1] and t - sde.eps > 1e-11 * t:  # closer ones are refused
            times.append(t)
    return [*times, sde.eps, *draw(st.sampled_from([[], [0.0]]))]


@st.composite
def solvers(draw: st.DrawFn) -> ss.Solver:
    name = draw(st.sampled_from(sorted(SOLVERS)))
    known = {field.name for field in fields(SOLVERS[name])}  # type: ignore[arg-type]
    options = {}
    if "order_of_last_steps" in known:
        options["order_of_last_steps"] = draw(st.sampled_from([(), (1,), (2, 1), (1, 1, 1)]))
    if "eta" in known and SOLVERS[name].noises:
        options["eta"] = draw(st.floats(0.05, 1.0))
    if "s_churn" in known:
        options["s_churn"] = draw(st.floats(0.0, 100.0))
    try:
        return ss.get_solver(name, **options)
    except ValueError:  # an option that this one does not go with, and says so
        return SOLVERS[name]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_samples_are_of_the_size_of_the_data(data: st.DataObject) -> None:
    """Of any solver with any options on any process and grid of your own: at most three times as far from the mean."""
    sde = data.draw(processes())
    solver, grid = data.draw(solvers()), data.draw(grids(sde))
    x = ss.sample(TARGET.denoiser(sde), (16, 2), solver=solver, grid=grid, dtype=torch.float64, check="off")
    mean, covariance = TARGET.moments()
    end = sde.sigma(grid[-1])
    assert (x - mean).square().sum(1).mean().sqrt() <= 3 * (covariance.trace() + 2 * end**2).sqrt() + 1
