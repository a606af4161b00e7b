"""Every recorded sample of a public sampler that our solvers can state is reproduced: levels, states and end points."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.golden.processes import NotYet
from tests.golden.reading import Options, Reading
from tests.golden.rules import RULES, SOURCES, read, reason_not_covered
from tests.golden.store import COMPACT, Case, Folder, golden

REASONS = {str(case): reason_not_covered(case) for case in golden().cases}
COVERED = [case for case in golden().cases if REASONS[str(case)] is None]
# Of the compact copy; a rule that stops to apply must not pass unnoticed. Raise it when cases come to be covered.
COVERED_IN_COMPACT = 527


def _start(case: Case, reading: Reading) -> torch.Tensor:
    """The recorded initial state in the variables of our process."""
    begin, (_, alpha, _) = reading.plan.begin, case.grid[0]
    if reading.latents:
        return case.x_init * begin.sigma
    if reading.same_scale:
        return case.x_init
    return case.x_init * (begin.alpha / alpha if alpha > 0 else 1.0)


def _error(ours: torch.Tensor, our_alpha: float, recorded: torch.Tensor, recorded_alpha: float) -> float:
    """The largest difference, in the variables of the recording."""
    scale = recorded_alpha / our_alpha if our_alpha > 0 else 1.0
    return (ours[: len(recorded)] * scale - recorded).abs().max().item()


@pytest.mark.parametrize("case", COVERED, ids=str)
def test_reproduces(case: Case, record_golden) -> None:
    reading = read(case)
    plan, denoiser = reading.plan, case.target.denoiser(reading.sde)
    denoiser = denoiser if reading.wrap is None else reading.wrap(denoiser)
    run = plan.start(_start(case, reading), noise=reading.noise(case))
    states, alphas, predictions = [], [], []
    for alpha, sigma in case.evals:
        at = run.point
        # The same noise level, whether or not the recording has the states unscaled.
        assert at.alpha * sigma == pytest.approx(at.sigma * alpha, rel=reading.level_rtol, abs=0.0)
        states.append(run.x)
        x0 = denoiser(run.x, run.t)
        if reading.corrections:
            predictions.insert(0, denoiser.predict(run.x, run.t, run.kind))
            for weight, prediction in zip(reading.corrections[len(alphas)], predictions, strict=False):
                states[-1] = states[-1] + weight * prediction
        alphas.append(at.alpha)
        run.tell(x0)
    assert run.done
    assert run.nfe == case.info["nfe"]
    states.append(run.sample)
    alphas.append(plan.end.alpha)

    if reading.same_scale:
        alphas = [alpha for _, alpha, _ in case.grid]

    bound = case.info["suggested_atol"] + reading.quadrature * case.x_end.abs().max().item()
    error = _error(run.sample, alphas[-1], case.x_end, case.grid[-1][1])
    record_golden(case, error / bound)
    assert error <= bound

    if case.has("traj"):
        traj = torch.from_numpy(case.array("traj"))
        assert len(reading.states) == len(case.grid) == len(traj)
        for i, (t, alpha, _) in enumerate(case.grid):
            # States before the end are larger, and so is their rounding.
            room = bound * max(1.0, traj[i].abs().max().item() / max(1.0, case.info["max_abs_x_end"]))
            room *= reading.level_rtol / Reading.level_rtol  # a state is no more exact than its level
            k = reading.states[i]
            ours = (_start(case, reading), plan.begin.alpha) if k is None else (states[k], alphas[k])
            assert _error(*ours, traj[i], alpha) <= room, f"state at row {i}, t={t}"


def test_nothing_is_dropped_silently() -> None:
    """Each case is covered or has a reason; without a rule it is "no solver of ours", and nothing else."""
    assert len(REASONS) == len(golden().cases) == golden().manifest.get("n_cases", len(REASONS))
    for case in golden().cases:
        reason = REASONS[str(case)]
        if (case.source, case.solver) not in RULES:
            assert reason == "no solver of ours"
        else:
            assert reason is None or reason != ""
    assert {case.source for case in golden().cases} <= set(SOURCES)


@pytest.mark.slow
def test_coverage_of_the_compact_copy() -> None:
    cases = Folder(COMPACT).cases
    reasons = Counter(reason_not_covered(case) is None for case in cases)
    assert reasons == {True: COVERED_IN_COMPACT, False: len(cases) - COVERED_IN_COMPACT}


def test_every_rule_has_cases() -> None:
    """A row of RULES that matches no case is a typo."""
    assert set(RULES) <= {(case.source, case.solver) for case in Folder(COMPACT).cases}


def _shipped(source: str, solver: str) -> Case:
    return next(c for c in Folder(COMPACT).cases if (c.source, c.solver) == (source, solver))


def test_an_unknown_option_is_not_ignored() -> None:
    case = _shipped("k_diffusion", "heun")
    changed = Case(case.folder, {**case.info, "options": {**case.options, "s_new": 3.0}})
    assert reason_not_covered(changed) == "option s_new"
    with pytest.raises(NotYet, match="s_churn=6"):
        Options(Case(case.folder, {**case.info, "options": {"s_churn": 6}}), shown=()).need("s_churn", 0.0, 0.0)


def test_a_wrong_solver_is_found_out() -> None:
    """The bounds are sharp enough to tell methods apart: the taylor form of 2M is not the midpoint form."""
    case = _shipped("k_diffusion", "dpmpp_2m")
    other = Case(case.folder, {**case.info, "solver": "dpmpp_2m_sde", "options": {"eta": 0.0, "solver_type": "heun"}})
    reading = read(other)
    run, denoiser = reading.plan.start(_start(case, reading)), case.target.denoiser(reading.sde)
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    assert (run.sample - case.x_end).abs().max() > 1e6 * case.info["suggested_atol"]


def test_compact_copy_is_small() -> None:
    sizes = [path.stat().st_size for path in COMPACT.iterdir()]
    assert max(sizes) < 1_000_000
    assert sum(sizes) < 2_000_000
