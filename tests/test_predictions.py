"""Conversions between kinds of prediction."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoresde.predictions import PREDICTIONS, convert

levels = st.tuples(st.floats(1e-3, 1.0), st.floats(1e-3, 100.0))
kinds = st.sampled_from(sorted(PREDICTIONS))
values = st.floats(-3.0, 3.0)


def predictions_of(x0: float, eps: float, alpha: float, sigma: float) -> dict[str, float]:
    """Each kind by its definition."""
    return {
        "x0": x0,
        "epsilon": eps,
        "score": -eps / sigma,
        "v": alpha * eps - sigma * x0,
        "flow": eps - x0,
        "unit-v": (alpha * eps - sigma * x0) / math.hypot(alpha, sigma),
    }


@given(level=levels, source=kinds, wanted=kinds, x0=values, eps=values)
def test_conversion_agrees_with_the_definitions(level, source: str, wanted: str, x0: float, eps: float) -> None:
    alpha, sigma = level
    known = predictions_of(x0, eps, alpha, sigma)
    on_x, on_prediction = convert(source, wanted, alpha, sigma)
    got = on_x * (alpha * x0 + sigma * eps) + on_prediction * known[source]
    scale = 1 + abs(on_x) * (abs(alpha * x0) + abs(sigma * eps)) + abs(on_prediction * known[source])
    assert got == pytest.approx(known[wanted], abs=1e-14 * scale)


@given(level=levels, source=kinds, wanted=kinds)
def test_round_trip(level, source: str, wanted: str) -> None:
    p, q = convert(source, wanted, *level)
    back_p, back_q = convert(wanted, source, *level)
    assert back_q * q == pytest.approx(1.0, rel=1e-12)
    assert back_p + back_q * p == pytest.approx(0.0, abs=1e-12 * (abs(back_p) + abs(back_q * p) + 1))


def test_pure_noise() -> None:
    """At alpha = 0, x is the noise, and v and flow still know x0."""
    x0, x = 0.7, -1.3
    for kind, value in (("v", -x0), ("flow", x - x0)):
        on_x, on_prediction = convert(kind, "x0", 0.0, 1.0)
        assert on_x * x + on_prediction * value == pytest.approx(x0)
    assert convert("x0", "epsilon", 0.0, 1.0) == (1.0, 0.0)
    for kind in ("epsilon", "score"):
        with pytest.raises(ValueError, match="alpha = 0"):
            convert(kind, "x0", 0.0, 1.0)


def test_clean_data() -> None:
    """At sigma = 0, x is the data; no kind but x0's own inverse exists."""
    on_x, on_prediction = convert("epsilon", "x0", 1.0, 0.0)
    assert (on_x, abs(on_prediction)) == (1.0, 0.0)
    for source, wanted in (("x0", "epsilon"), ("x0", "score"), ("score", "x0"), ("v", "score")):
        with pytest.raises(ValueError, match="sigma = 0"):
            convert(source, wanted, 1.0, 0.0)


def test_v_at_small_noise_does_not_cancel() -> None:
    sigma = 1e-9
    alpha = math.sqrt(1 - sigma**2)
    on_x, on_v = convert("v", "epsilon", alpha, sigma)
    assert on_x == pytest.approx(sigma, rel=1e-15)
    assert on_v == pytest.approx(alpha, rel=1e-15)


def test_unknown_kind_lists_the_nearest() -> None:
    with pytest.raises(ValueError, match="nearest: epsilon"):
        convert("epsilonn", "x0", 1.0, 1.0)
