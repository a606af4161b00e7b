"""The sentences of docs/choose-a-solver.md, held against the measurements that the page shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scoresde as ss

MEASURED = Path(__file__).parent.parent / "docs" / "measured"
PAGE = (MEASURED.parent / "choose-a-solver.md").read_text(encoding="utf-8")
QUESTIONS = ("network", "exact", "flow", "guided", "closed_form", "to_data")


class Errors:
    """Of one question: ``errors("ddim", 10)``."""

    def __init__(self, question: str) -> None:
        self.rows = json.loads((MEASURED / f"choose-{question}.json").read_text(encoding="utf-8"))

    def __call__(self, solver: str, column: int | str) -> float:
        return self.rows[solver][str(column)][0]

    def rank(self, solver: str, column: int | str) -> int:
        """1 for the best."""
        return sorted(self.rows, key=lambda name: self(name, column)).index(solver) + 1


@pytest.fixture(scope="module")
def network() -> Errors:
    return Errors("network")


@pytest.mark.parametrize("question", QUESTIONS)
def test_tables_are_shown_and_of_solvers_that_exist(question: str) -> None:
    assert f"{{include}} measured/choose-{question}.md" in PAGE
    table = (MEASURED / f"choose-{question}.md").read_text(encoding="utf-8")
    rows = Errors(question).rows
    assert {line.split("|")[1].strip(" `") for line in table.splitlines()[2:]} <= set(rows)
    assert set(rows) - {"real against real"} <= set(ss.solvers())


def test_multistep_methods_win(network: Errors) -> None:
    assert network("heun", 10) > 2 * network("adams-3-v", 10)
    for nfe in (5, 8, 10, 15, 20, 30):
        for singlestep in ("dpmpp-2s", "dpmpp-3s", "res-2s", "res-3s"):
            assert network(singlestep, nfe) > network("dpmpp-2m", nfe)


def test_the_third_order_pays_from_15_calls(network: Errors) -> None:
    for solver in ("unipc-3", "dpmpp-3m", "ipndm-4"):
        assert network("dpmpp-2m", 15) == pytest.approx(2 * network(solver, 15), rel=0.15)
        for nfe in (20, 30):
            assert 2.4 * network(solver, nfe) < network("dpmpp-2m", nfe) < 4.1 * network(solver, nfe)


def test_few_calls(network: Errors) -> None:
    for nfe in (8, 10):
        for solver in ("adams-3-v", "ipndm-3"):
            assert network(solver, nfe) < 0.77 * network("dpmpp-2m", nfe)
    for solver in ("adams-2-flow", "ipndm-2", "adams-3-v"):
        assert network.rank(solver, 5) <= 8
        assert network("ddim", 5) < 1.5 * network(solver, 5)
    for high in ("rk4", "adams-5-rk"):
        assert network(high, 10) > network("ddim", 10)
    for nfe in (5, 8, 10, 15, 20, 30):
        assert network("pndm", nfe) > network("ipndm-4", nfe)


def test_exact_networks() -> None:
    vp, flow = Errors("exact"), Errors("flow")
    for solver in ("unipc-3", "unipc-4"):
        assert 6.5 < vp(solver, 40) / vp(solver, 80) < 10.5
    assert 1.5 < vp("ddim", 40) / vp("ddim", 80) < 2.5
    assert sum(vp(solver, 160) < 6e-5 for solver in vp.rows) <= 4
    for solver in ("adams-4-v-rk", "adams-4-flow-rk"):
        assert vp(solver, 160) < 1e-6
    assert all(vp("unipc-3", nfe) < vp("unipc-3-rk", nfe) for nfe in (10, 20, 40, 80))
    assert vp("adams-4-v-rk", 20) > vp("adams-3-v", 20)
    assert vp("adams-4-v-rk", 40) < vp("adams-3-v", 40)
    for errors in (vp, flow):
        assert min(errors.rank(solver, 10) for solver in ("adams-2-v", "adams-3-v")) == 1
        assert max(errors.rank(solver, 10) for solver in ("adams-2-v", "adams-3-v")) <= 3


def test_guidance() -> None:
    errors = Errors("guided")
    for solver in errors.rows:
        assert 1.8 < errors(solver, "6 @ 12") / errors(solver, "1 @ 12") < 5.1
    assert errors("unipc-2", "6 @ 8") < errors("unipc-3", "6 @ 8")
    assert errors("adams-2-flow", "6 @ 8") < errors("adams-3-flow", "6 @ 8")
    for scale in (3, 6):
        for solver in ("heun", "dpmpp-2s", "res-2s"):
            assert errors(solver, f"{scale} @ 8") > errors("ddim", f"{scale} @ 8")
    columns = list(errors.rows["dpmpp-2m"])
    ratios = [errors("dpmpp-2m", c) / errors("dpm-solver-2m", c) for c in columns]
    assert sum(0.9 < r < 1.1 for r in ratios) == len(columns) - 1


def test_with_noise() -> None:
    errors = Errors("closed_form")
    noisy = [name for name, s in ss.solvers().items() if name in errors.rows and not s.deterministic]
    assert errors("dpmpp-3m", 20) < min(errors(name, 20) for name in noisy)
    assert errors("dpmpp-3m", 20) < errors("sde-dpmpp-2m", 50)
    assert min(noisy, key=lambda name: errors(name, 20)) == "er-sde-3"
    third = ("sde-dpmpp-3m", "er-sde-3", "sa-solver")
    for nfe in (50, 100):
        assert max(errors(name, nfe) for name in third) < errors("sde-dpmpp-2m", nfe)
    for name in ("ddpm", "euler-maruyama", "euler-churn", "heun-churn"):
        assert errors(name, 100) > errors("sde-dpmpp-2m", 50)


def test_distance_to_data() -> None:
    errors = Errors("to_data")

    def interval(name: str, nfe: int) -> tuple[float, float]:
        value, half = errors.rows[name][str(nfe)]
        return value - half, value + half

    drawn = [name for name in errors.rows if name in ss.solvers()]
    assert max(interval(name, 50)[0] for name in drawn) < min(interval(name, 50)[1] for name in drawn)
    for name in ("ddpm", "dpmpp-sde", "seeds-2", "sa-solver", "heun-churn"):
        assert interval(name, 10)[0] > interval("dpmpp-2m", 10)[1]
    assert interval("er-sde-3", 10)[0] < interval("dpmpp-2m", 10)[1]
    assert interval("unipc-3", 20)[0] < interval("dpmpp-2m", 20)[1]


def test_the_main_axis_tells_what_the_distance_to_data_does_not(network: Errors) -> None:
    assert network("dpmpp-2m", 20) == pytest.approx(3 * network("unipc-3", 20), rel=0.1)
