"""The study of rankings: that it sees a contradiction, and none where there is none."""

from __future__ import annotations

import pytest

from benchmarks.ranking import compared, stability, table, winners
from tests.bench.made_up_rows import rows

METRIC = "rmse_reference"
NEAR = {"ddim": 1.0, "dpmpp-2m": 0.5, "heun": 0.50001}  # the last two cannot be told apart


def repeat(number: int, factors: dict[str, float]) -> list[dict]:
    return rows(factors, nfes=(5,), seeds=(2 * number, 2 * number + 1), metric=METRIC)


@pytest.mark.parametrize("kind", ["alone", "family"])
def test_repeats_that_agree_have_no_contradiction(kind: str):
    (line,) = stability([repeat(number, NEAR) for number in range(4)], METRIC)
    assert (line["comparisons"], line["pairs"]) == (3 * 4, 3 * 6)
    assert 8 <= line[kind]["calls"] <= 9  # ddim against the others, in each repeat; and one by chance perhaps
    assert line[kind]["contradictions"] == line[kind]["wrong"] == line["overturned"] == 0
    assert sum(line["winners"].values()) == 4
    assert "ddim" not in line["winners"]


def test_a_repeat_that_says_the_opposite_is_seen():
    turned = {"ddim": 0.5, "dpmpp-2m": 1.0, "heun": 1.00001}
    (line,) = stability([*(repeat(number, NEAR) for number in range(3)), repeat(3, turned)], METRIC)
    assert line["alone"]["contradictions"] == line["family"]["contradictions"] == 2 * 3
    assert line["alone"]["wrong"] == 2
    assert line["overturned"] == 3
    assert line["winners"]["ddim"] == 1


def test_the_sign_of_a_call_and_the_winner():
    found = repeat(0, {"ddim": 1.0, "dpmpp-2m": 0.5})
    assert winners(found, METRIC) == {5: "dpmpp-2m"}
    call = compared(found, METRIC)[5, "ddim", "dpmpp-2m"]
    assert (call.alone, call.family) == (1, 1)
    assert compared(found, "energy_data") == {}


def test_the_table_sums_up():
    lines = stability([repeat(number, NEAR) for number in range(3)], METRIC)
    text = table({"repeats": 3, "seeds": 2, "samples": 200, "rows": lines})
    assert "| **Same-seed error** | all |" in text
    assert "0 of 9 (0 %)" in text
    assert "at most 0.125 % are allowed" in text
