"""The report: one page that holds everything, loads nothing, and says what the cells say."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scoresde.bench.report import render, write_report
from scoresde.bench.report.facts import suite_toml
from scoresde.bench.store import Store
from scoresde.bench.suite import Cell, Suite, choice, load_suite, suite_to_dict
from tests.bench.made_up_report import SOLVERS, made_up_folder, made_up_row, made_up_suite


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder as a run would leave it, with one failed cell; read only."""
    return made_up_folder(tmp_path_factory.mktemp("results") / "made up")


@pytest.fixture(scope="module")
def page(whole: Path) -> str:
    return render(whole)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(whole, tmp_path / whole.name)


class Tags(HTMLParser):
    """Collects tags with their attributes, checks that they nest, and keeps the text inside each kind of tag."""

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_tags_nest_and_ids_are_unique(page: str):
    tags = Tags(page)
    assert tags.open == []
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {href[1:] for a in tags.all("a") if (href := a["href"] or "").startswith("#")}
    assert targets <= set(ids)


def test_nothing_is_loaded_from_anywhere(page: str):
    tags = Tags(page)
    for tag, attributes in tags.found:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            if value is not None:
                assert value.startswith(("data:", "#")), (tag, name, value[:60])
    assert not tags.all("iframe")
    assert not tags.all("object")
    outside = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|import\(", outside)
    assert not re.search(r"[\"'(=]\s*//", outside)
    policy = next(m["content"] for m in tags.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in (policy or "")


def test_the_page_follows_from_the_folder(whole: Path, page: str, tmp_path: Path):
    written = write_report(whole, tmp_path / "elsewhere" / "r.html")
    assert written == tmp_path / "elsewhere" / "r.html"
    assert written.read_text(encoding="utf-8") == page


def lines_of(page: str) -> list[tuple[str, ...]]:
    """The lines of the first table of verdicts: calls, best, against the others."""
    table = page[page.index('<table class="lines">') : page.index("</table>")]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table[table.index("<tbody>") :], re.DOTALL)
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in rows]
    return [tuple(" ".join(re.sub(r"<[^>]+>", "", cell).split()) for cell in row) for row in cells]


def test_the_headline_says_who_is_best_and_by_how_much(page: str):
    """60/10^3 = 0.06 and 9/10^2 = 0.09, times 1.005 (the mean of two seeds), with 2 % of error for each seed."""
    first, second, third = lines_of(page)
    assert first[:2] == ("5", "dpmpp-2m 0.362 ± 0.010")
    assert first[2].startswith("1.33× closer than dpmpp-3m by 0.121 ±")
    assert second[:2] == ("10", "dpmpp-3m 0.0603 ± 0.0017")
    assert second[2].startswith("1.50× closer than dpmpp-2m by 0.0301 ±")
    assert third[2].startswith("3.00× closer than dpmpp-2m by")
    said = re.sub(r"<[^>]+>", "", page[page.index('class="said"') :])
    assert "dpmpp-2m is best at 5 calls (1.33× closer than the next); dpmpp-3m is best at 10 and 20 calls" in said
    assert "(1.50 to 3.00× closer than the next)." in said


NEAR = {choice("ddim"): (3.0, 1, False), choice("heun"): (3.1, 1, False), choice("dpmpp-2m"): (9.0, 1, False)}


def near_page(folder: Path, **how: bool) -> str:
    """Two solvers whose intervals overlap, and one far away."""
    store, first = Store(folder), made_up_suite().blocks[0]
    for cell in Suite("near", "", (replace(first, nfes=(5,), solvers=tuple(NEAR)),)).cells():
        store.write_json(store.cell_path(cell.stem), made_up_row(cell, NEAR, **how))
    return render(folder)


@pytest.mark.parametrize("how", [{"left": False}, {"shared": False}], ids=["no jackknife", "errors not shared"])
def test_what_may_be_chance_is_not_called_better(tmp_path: Path, how: dict[str, bool]):
    page = near_page(tmp_path, **how)
    (line,) = lines_of(page)
    assert line[2].startswith("tied with heun; 3.00× closer than dpmpp-2m")
    assert "No single solver is best at 5 calls." in page
    table = page[page.index('<table class="values">') :]
    assert re.findall(r'<th scope="row">([^<]+)</th>\s*<td(?: class="(\w+)")?', table)[:3] == [
        ("ddim", "best"),
        ("dpmpp-2m", ""),
        ("heun", "tied"),
    ]


def test_a_paired_difference_is_one_though_the_intervals_overlap(tmp_path: Path):
    (line,) = lines_of(near_page(tmp_path, shared=True))
    assert line[2].startswith("1.03× closer than heun by 0.0201 ±")


def test_every_cell_is_a_row_of_the_table_and_failures_are_told(page: str):
    body = page[page.index('id="all"') :]
    assert len(re.findall(r'<tr(?: class="failed")?><td>', body)) == 72
    assert body.count('<tr class="failed">') == 1
    assert "&lt;b&gt;not finite&lt;/b&gt; &amp; so on" in page
    assert "<b>not finite" not in page
    headings = Tags(page).all("th")
    sortable = [th for th in headings if "aria-sort" in th]
    assert len(sortable) == 4 + 4 + 3 + 4


def test_pictures_are_pngs_for_each_solver_and_budget(page: str):
    images = Tags(page).all("img")
    assert len(images) == 3 * 12 - 1  # one cell failed
    assert all((i["src"] or "").startswith("data:image/png;base64,") and i["alt"] for i in images)


def test_environment_and_command_are_on_the_page(page: str):
    assert "scoresde bench made-up" in page
    assert re.search(r"<dt>threads</dt><dd>1</dd>", page)
    assert re.search(r"<dt>commit</dt><dd>unknown</dd>", page)


def test_damaged_files_and_cells_of_other_suites_do_no_harm(folder: Path, page: str):
    (folder / "cells" / "broken.json").write_text('{"config":')
    (folder / "samples" / "broken.npy").write_bytes(b"")
    assert render(folder) == page
    store = Store(folder)
    old = Cell(choice("digits"), choice("vp"), choice("ddim"), choice("log-snr"), 5, 0, 77)
    store.write_json(store.cell_path(old.stem), made_up_row(old))
    (folder / "run.json").unlink()
    assert "77 samples, float32" in render(folder)


def test_an_empty_folder_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no benchmark results"):
        render(tmp_path)


def test_a_page_of_failures_only_is_a_page(tmp_path: Path):
    store, cell = Store(tmp_path), made_up_suite().cells()[0]
    row = {"schema": 1, "hash": cell.hash, "config": cell.config, "status": "failed", "error": "ValueError: no"}
    store.write_json(store.cell_path(cell.stem), {**row, "seconds": {"cell": 0.1}, "environment": {}})
    assert "ValueError: no" in render(tmp_path)


def test_ways_classes_and_grids_are_shown(page: str):
    tags = Tags(page)
    plots = [a for a in tags.all("svg") if a.get("class") == "ways"]
    assert len(plots) == 1 + len(SOLVERS)  # the nearest to converged, and each at ten calls
    assert plots[0]["aria-label"] == "ways of 8 samples of dpmpp-3m at NFE 20"
    heats = re.findall(r'<table class="values heat">(.*?)</table>', page, re.DOTALL)
    by_grid = [heat for heat in heats if "uniform" in heat]
    by_class = [heat for heat in heats if ">seven<" in heat]
    assert len(by_grid) == 2 * 3  # two metrics at three budgets
    assert len(by_class) == 3
    for heat in by_grid:
        assert heat.count('aria-label="best"') == 1
    assert "dpmpp-2m on log-snr" in page
    assert re.search(r'<td class="h0"[^>]*><span role="img" aria-label="best">', by_grid[0])


def test_peers_and_memory_are_told(page: str):
    assert "<small>peers 1.2</small>" in page
    assert re.search(r"<dt>samplers of</dt><dd>peers 1.2</dd>", page)
    assert "memory (MB)" in page


def test_the_suite_on_the_page_is_the_suite(page: str, tmp_path: Path):
    suite = load_suite("quick")
    file = tmp_path / "again.toml"
    file.write_text(suite_toml(suite_to_dict(suite)), encoding="utf-8")
    assert load_suite(str(file)) == suite
    assert "target = &#34;mixture&#34;" in page


def test_a_metric_with_a_best_value_is_ranked_by_its_distance(tmp_path: Path):
    store = Store(tmp_path)
    for cell in Suite("near", "", (replace(made_up_suite().blocks[0], nfes=(5,), solvers=tuple(NEAR)),)).cells():
        row = made_up_row(cell, NEAR)
        value = {"ddim": 1.02, "heun": 0.9, "dpmpp-2m": 0.5}[cell.solver.name]
        row["metrics"] = {"density": {"value": value, "low": value - 0.01, "high": value + 0.01, "se": 0.005, "n": 9}}
        store.write_json(store.cell_path(cell.stem), row)
    page = render(tmp_path)
    (line,) = lines_of(page)
    assert line[1] == "ddim 1.02 ± 0.0069"
    assert line[2] == "5.00× closer than heun"
    assert "Smaller is better, except where" in page
    assert "Density by time" not in page
    assert 'class="ideal"' in page


def test_old_rows_make_a_page(tmp_path: Path):
    """Files of schema 2 know no leave-one-out values, classes, memory or packages."""
    store = Store(tmp_path)
    for cell in replace(made_up_suite(), blocks=made_up_suite().blocks[:1]).cells():
        row = made_up_row(cell, left=False)
        for key in ("classes", "memory"):
            del row[key]
        del row["solver"]["package"]
        store.write_json(store.cell_path(cell.stem), row)
    page = render(tmp_path)
    assert "of each class" not in page
    assert "memory (MB)" not in page


@pytest.mark.slow
def test_many_cells_stay_quick(tmp_path: Path):
    """Two thousand cells: in seconds, and a page that a browser opens at once."""
    grids = (choice("karras"), choice("uniform"))
    block = replace(made_up_suite().blocks[0], nfes=tuple(range(5, 15)), seeds=tuple(range(25)), grids=grids)
    (tmp_path / "cells").mkdir()
    for cell in Suite("many", "", (block,)).cells():
        (tmp_path / "cells" / f"{cell.stem}.json").write_text(json.dumps(made_up_row(cell)))
    start = time.process_time()
    page = render(tmp_path)
    assert page[page.index('id="all"') :].count("<tr><td>") == 2000
    assert time.process_time() - start < 20
    assert len(page) < 3e6
