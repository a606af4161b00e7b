"""What the rules of predictor-corrector samplers share."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from scoresde.rows import Step
from scoresde.sde import SDE
from scoresde.solvers.predictor_corrector import PredictorCorrector
from tests.golden.processes import process_of, times_at
from tests.golden.reading import Pairs, Reading, along
from tests.golden.store import Case


def steps_of(sde: SDE, pairs: Pairs) -> list[Step]:
    """The steps of a solver that makes one prediction in each."""
    points = [(sde.point(s), sde.point(t)) for s, t in pairs]
    before = [s for s, _ in points]
    return [Step(sde, s, t, tuple(before[:i][::-1]), i, len(points)) for i, (s, t) in enumerate(points)]


def correcting(reading: Reading, solver: PredictorCorrector, pairs: Pairs) -> Reading:
    """The reading, of a source that records corrected points, for a solver in mode PEC, which evaluates predicted ones.

    The last point is not corrected.
    """
    *corrected, _ = steps_of(reading.sde, pairs)
    return replace(reading, corrections=((), *(solver.correction(step) for step in corrected)))


def on_corrected_points(case: Case, solver: PredictorCorrector) -> Reading:
    """One solver along the recorded grid, in mode PEC."""
    sde = process_of(case)
    pairs = list(pairwise(times_at(sde, case.grid)))
    into_data = pairs[-1:] if sde.sigma(pairs[-1][1]) == 0.0 else []
    reading = correcting(along(sde, solver, pairs), solver, pairs[: len(pairs) - len(into_data)])
    # The official codes denoise from the predicted point.
    return replace(reading, corrections=(*reading.corrections, *(() for _ in into_data)))
