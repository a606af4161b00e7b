"""The published page: that it follows from the packed results, and says what they say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.publish.__main__ import HERE, publish
from benchmarks.publish.arenas import arenas
from benchmarks.publish.figures import figures
from scoresde.bench.results import Results, pack
from scoresde.bench.suite import choice
from tests.bench.made_up_rows import CELL, estimate, failed, row, rows

FACTORS = {"ddim": 1.0, "dpmpp-2m": 0.5, "beta/good": 0.4, "beta/bad": 3.0, "alpha/same": 0.50001}
TARGET = "#### mixture · vp"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page with one suite that was run: a peer that is better, one that is the same, one cell that failed."""
    found = rows(FACTORS, nfes=(5, 10), metric="rmse_reference")
    bad = failed(replace(CELL, solver=choice("beta/bad"), nfe=20), "ValueError: not <that> | many")
    alone = replace(CELL, solver=choice("ddim"), nfe=20)
    ours = row(alone, {"rmse_reference": estimate(0.05, 0), "frechet_exact": formula(0.1)})
    results = Results((*found, ours, bad), run={"command": "scoresde bench made-up"})
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "made-up.jsonl.xz").write_bytes(pack(results))
    marks = "".join(f"<!-- begin {name} -->\nold\n<!-- end {name} -->\n" for name in ("made-up", "absent", "step-cost"))
    (tmp_path / "README.md").write_text(f"# By hand\n{marks}the end\n")
    (tmp_path / "step-cost.md").write_text("| a | cost |\n")
    return tmp_path


@pytest.fixture
def page(folder: Path) -> str:
    return publish(folder, folder)[folder / "README.md"]


def table(page: str, after: str) -> list[list[str]]:
    """The body of the first table after some words."""
    lines = page[page.index(after) :].splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("| ---"))
    body = lines[start + 1 : next(place for place in range(start, len(lines)) if not lines[place].startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body]


def test_the_best_of_each_package_and_how_they_stand(page: str):
    first = table(page, "best of each package")[0]
    assert first[0] == "5"
    assert first[1].startswith("`dpmpp-2m, log-snr`<br>0.0998 ± ")
    assert first[2].endswith("<br>0.9998×, no difference")
    assert re.fullmatch(r"`good, log-snr`<br>0\.0798 ± .*<br>\*\*0\.8×, better\*\*", first[3])
    assert table(page, "Each package's best") == [
        ["mixture · vp", "Same-seed error", "0 / 2 / 0", "**0 / 0 / 2**"],
    ]


def test_a_peer_that_is_better_is_said_to_be(page: str):
    losses = page[page.index("Where a package's best is better") : page.index(TARGET)]
    assert losses.count("\n- ") == 1
    assert "same-seed error, beta: 5 calls `good, log-snr` 0.8×; 10 calls `good, log-snr` 0.8×\n" in losses
    assert "alpha" not in losses


def test_every_sampler_is_listed_ours_first_then_the_best(page: str):
    listed = [(line[0], line[1]) for line in table(page, "all samplers")]
    assert listed == [
        *(("scoresde", "`dpmpp-2m`"), ("scoresde", "`ddim`")),
        *(("alpha", "`same`"), ("beta", "`good`"), ("beta", "`bad`")),
    ]


def test_how_it_was_run_and_what_failed(page: str):
    assert "- Cells: 21 finished, 1 that could not be computed" in page
    assert "- Samplers: 1 of alpha, 2 of beta, 2 of scoresde" in page
    assert "- Machine: abacus, 1 thread\n" in page
    assert "alpha 1.2, beta 1.2" in page
    assert "- Command: `scoresde bench made-up`" in page
    assert table(page, "Cells that could not be computed") == [["beta", "1", "not &lt;that> \\| many"]]


def test_what_is_between_the_marks_is_made_anew_and_nothing_else(folder: Path, page: str):
    assert page.startswith("# By hand\n<!-- begin made-up -->\n")
    assert page.endswith("<!-- end step-cost -->\nthe end\n")
    assert "old" not in page
    assert "Not run yet." in page[page.index("begin absent") : page.index("end absent")]
    assert "| a | cost |" in page[page.index("begin step-cost") :]
    (folder / "README.md").write_text(page)
    assert publish(folder, folder)[folder / "README.md"] == page


def test_figures_are_drawn_for_the_page(folder: Path, page: str):
    drawn = {path.relative_to(folder).as_posix(): text for path, text in publish(folder, folder).items()}
    shown = re.findall(r'<img src="([^"]+)"', page)
    assert sorted(shown) == sorted(set(drawn) - {"README.md"})
    assert len(shown) == 2
    for name in shown:
        picture = ET.fromstring(drawn[name])
        words = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
        assert {"scoresde", "alpha", "beta", "Best of each package: mixture · vp"} <= set(words)
        assert "url(" not in drawn[name]
        assert "href" not in drawn[name]


def formula(value: float) -> dict:
    return {"value": value, "low": value, "high": value, "se": 0.0, "n": 200, "left": []}


def test_a_metric_that_not_all_packages_have_is_no_headline():
    found = rows({"ddim": 1.0, "alpha/x": 2.0}, nfes=(5,), seeds=(0,))
    assert arenas(Results(tuple(found)))[0].headlines == ("energy_data",)
    found[0]["metrics"]["frechet_exact"] = formula(0.1)
    assert arenas(Results(tuple(found)))[0].headlines == ("energy_data",)
    found[1]["metrics"]["frechet_exact"] = formula(0.1)
    assert arenas(Results(tuple(found)))[0].headlines == ("frechet_exact",)


def test_what_differs_in_its_samples_is_another_arena_with_figures_of_its_own():
    cells = [replace(CELL, samples=samples) for samples in (100, 200)]
    found = arenas(Results(tuple(row(cell, {"frechet_exact": formula(0.1)}) for cell in cells)))
    assert [one.title for one in found] == ["mixture · vp", "mixture · vp (2)"]
    assert len(figures("x", found)) == 4


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [(0.49, "better"), (0.4998, "no difference"), (0.5002, "no difference"), (0.51, "worse")],
)
def test_less_than_a_thousandth_is_no_difference(theirs: float, verdict: str):
    values = {"ddim": 0.5, "alpha/x": theirs}
    cells = [replace(CELL, solver=choice(name)) for name in values]
    found = Results(tuple(row(cell, {"frechet_exact": formula(values[cell.solver.name])}) for cell in cells))
    (call,) = arenas(found)[0].calls("alpha", "frechet_exact")
    assert (call.verdict, call.ratio) == (verdict, pytest.approx(2 * theirs))


def test_the_committed_page_and_figures_follow_from_the_committed_results():
    made = publish(HERE)
    assert {path for path in made if path.suffix == ".svg"} == set((HERE / "figures").glob("*.svg"))
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not what `python -m benchmarks.publish` makes"
