"""The report: one page that holds everything, loads nothing, and says what the cells say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from scoresde.bench.report import render, write_report
from scoresde.bench.store import Store
from scoresde.bench.suite import Block, Cell, Suite, choice, suite_to_dict

# Made-up results with known answers: the error of a solver is scale / NFE^order, with an interval of 4 % either side.
SOLVERS = {
    choice("ddim"): (3.0, 1, False),
    choice("dpmpp-2m"): (9.0, 2, False),
    choice("dpmpp-3m"): (60.0, 3, False),
    choice("ddim", eta=1.0): (6.0, 1, True),
}
NFES = (5, 10, 20)


def made_up_suite() -> Suite:
    def block(target: str, samples: int) -> Block:
        return Block(choice(target), (choice("vp"),), (choice("log-snr"),), tuple(SOLVERS), NFES, (0, 1), samples)

    return Suite("made-up", "for the tests", (block("digits", 10), block("mixture", 200)))


def made_up_row(cell: Cell) -> dict:
    scale, order, stochastic = SOLVERS[cell.solver]
    error = scale / cell.nfe**order * (1 + 0.01 * cell.seed)

    def estimate(value: float) -> dict:
        return {"value": value, "low": 0.96 * value, "high": 1.04 * value, "se": 0.02 * abs(value), "n": cell.samples}

    metrics = {"frechet_data": estimate(0.1 + error), "energy_data": estimate(error - 0.02)}
    if not stochastic:
        metrics["rmse_reference"] = estimate(error)
    floor = {"value": 0.15, "low": 0.1, "high": 0.2, "se": 0.025, "n": 100}
    return {
        "schema": 1,
        "hash": cell.hash,
        "config": cell.config,
        "status": "ok",
        "error": None,
        "solver": {"label": cell.solver.label, "stochastic": stochastic, "order": order},
        "nfe": {"budget": cell.nfe, "plan": cell.nfe, "counted": cell.nfe},
        "seconds": {
            "cell": 0.2,
            "sampling": 0.001 * cell.nfe,
            "network": 0.0009 * cell.nfe,
            "solver": 0.0001 * cell.nfe,
        },
        "metrics": metrics,
        "floors": {"frechet_data": floor},
        "note": "Made up.",
        "reference": {"key": "made-up"},
        "environment": {"python": "3.x", "threads": 1, "commit": None},
    }


def picture_of(cell: Cell, generator: np.random.Generator) -> np.ndarray:
    if cell.target.name == "digits":
        return generator.integers(0, 256, (10, 8, 8)).astype(np.uint8)
    return generator.normal(size=(200, 2)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder as a run would leave it, with one failed cell."""
    store, suite, generator = Store(tmp_path / "made up"), made_up_suite(), np.random.default_rng(0)
    for cell in suite.cells():
        store.write_json(store.cell_path(cell.stem), made_up_row(cell))
        if cell.seed == 0:
            store.write_array(store.samples_path(cell.stem), picture_of(cell, generator))
    failed = suite.cells()[0]
    bad = {**made_up_row(failed), "status": "failed", "error": "ValueError: <b>not finite</b> & so on", "metrics": {}}
    store.write_json(store.cell_path(failed.stem), bad)
    run = {"suite": suite_to_dict(suite), "command": "scoresde bench made-up", "seconds": 12.5, "computed": 48}
    store.write_json(store.run_path, run)
    return store.folder


@pytest.fixture
def page(folder: Path) -> str:
    return render(folder)


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


def test_the_page_follows_from_the_folder(folder: Path):
    assert render(folder) == render(folder)
    assert write_report(folder).read_text(encoding="utf-8") == render(folder)
    other = write_report(folder, folder.parent / "elsewhere" / "r.html")
    assert other.exists()


def test_the_headline_says_who_is_best_and_by_how_much(page: str):
    cards = re.findall(r'<div class="card">(.*?)</div>', page, re.DOTALL)
    words = [re.sub(r"<[^>]+>|\s+", " ", card).split() for card in cards]
    assert [" ".join(w[:3]) for w in words] == ["5 calls dpmpp-2m", "10 calls dpmpp-3m", "20 calls dpmpp-3m"]
    # 60/10^3 = 0.06 and 9/10^2 = 0.09, times 1.005 (the mean of two seeds)
    assert "0.0603" in words[1]
    assert "1.50×" in words[1]
    assert "3.00×" in words[2]


def test_what_overlaps_is_not_called_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    near = {choice("ddim"): (3.0, 1, False), choice("heun"): (3.1, 1, False), choice("dpmpp-2m"): (9.0, 1, False)}
    monkeypatch.setitem(globals(), "SOLVERS", near)
    store = Store(tmp_path)
    for cell in Suite("near", "", (replace(made_up_suite().blocks[0], nfes=(5,)),)).cells():
        store.write_json(store.cell_path(cell.stem), made_up_row(cell))
    page = render(tmp_path)
    assert "not separable from heun" in page
    assert "closer than" not in page
    table = page[page.index('<table class="values">') : page.index("</table>")]
    assert re.findall(r'<th scope="row">([^<]+)</th>\s*<td class="(\w+)"', table) == [
        ("ddim", "best"),
        ("heun", "tied"),
    ]


def test_every_cell_is_a_row_of_the_table_and_failures_are_told(page: str):
    body = page[page.index('id="all"') :]
    assert len(re.findall(r'<tr(?: class="failed")?><td>', body)) == 48
    assert body.count('<tr class="failed">') == 1
    assert "&lt;b&gt;not finite&lt;/b&gt; &amp; so on" in page
    assert "<b>not finite" not in page
    headings = Tags(page).all("th")
    sortable = [th for th in headings if "aria-sort" in th]
    assert len(sortable) == 4 + 4 + 3 + 3


def test_pictures_are_pngs_for_each_solver_and_budget(page: str):
    images = Tags(page).all("img")
    assert len(images) == 2 * 12 - 1  # one cell failed
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
    assert "77 samples, float32" in render(folder)
    (folder / "run.json").unlink()
    assert "dpmpp-3m" in render(folder)


def test_an_empty_folder_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no benchmark results"):
        render(tmp_path)


def test_a_page_of_failures_only_is_a_page(tmp_path: Path):
    store, cell = Store(tmp_path), made_up_suite().cells()[0]
    row = {"schema": 1, "hash": cell.hash, "config": cell.config, "status": "failed", "error": "ValueError: no"}
    store.write_json(store.cell_path(cell.stem), {**row, "seconds": {"cell": 0.1}, "environment": {}})
    assert "ValueError: no" in render(tmp_path)


# ---- a real browser --------------------------------------------------------------------------------------------------

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

PROBE = """
<script>
{
const out = {resources: performance.getEntriesByType("resource").map((entry) => entry.name)};
out.wide = document.documentElement.scrollWidth > window.innerWidth;
const head = [...document.querySelectorAll("#all thead th")];
const at = head.findIndex((th) => th.textContent.includes("Same-seed"));
const values = () => [...document.querySelectorAll("#all tbody tr")].map((r) => r.cells[at].dataset.value);
head[at].querySelector("button").click();
out.up = values(); out.upState = head[at].getAttribute("aria-sort");
head[at].querySelector("button").click();
out.down = values(); out.downState = head[at].getAttribute("aria-sort");
const filter = document.getElementById("filter");
filter.value = "digits dpmpp-3m"; filter.dispatchEvent(new Event("input"));
out.count = document.getElementById("count").textContent;
out.visible = [...document.querySelectorAll("#all tbody tr")].filter((r) => r.offsetParent !== null).length;
const button = document.querySelector("[data-toggle]");
const shown = () => document.querySelectorAll(".panel .chart g:not(.off)").length;
const before = shown();
button.click(); out.hidden = before - shown(); out.pressed = button.getAttribute("aria-pressed");
button.click(); out.restored = shown() === before;
const apart = (a, b) => a.left > b.right - 1 || b.left > a.right - 1 || a.top > b.bottom - 1 || b.top > a.bottom - 1;
const overlaps = (a, b) => !apart(a, b);
const inside = (a, b) => a.left > b.left - 1 && a.right < b.right + 1 && a.top > b.top - 1 && a.bottom < b.bottom + 1;
out.overlaps = 0; out.texts = 0;
for (const svg of document.querySelectorAll(".chart")) {
  const frame = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll("text")].map((t) => t.getBoundingClientRect());
  out.texts += boxes.length;
  boxes.forEach((a, i) => {
    if (!inside(a, frame)) out.overlaps++;
    for (const b of boxes.slice(i + 1)) if (overlaps(a, b)) out.overlaps++;
  });
}
const cards = [...document.querySelectorAll(".card, figure, .legend button")].map((e) => e.getBoundingClientRect());
cards.forEach((a, i) => { for (const b of cards.slice(i + 1)) if (overlaps(a, b)) out.overlaps++; });
const result = document.createElement("pre");
result.id = "probe"; result.textContent = JSON.stringify(out); document.body.append(result);
}
</script>
"""


def browse(page: Path, text: str, width: int) -> subprocess.CompletedProcess[str]:
    """Open the text as a page in headless Chromium: the document as it ends, and the browser's log."""
    page.write_text(text, encoding="utf-8")
    quiet = "gpu quic background-networking component-update sync default-apps extensions"
    return subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"),
            *(f"--disable-{name}" for name in quiet.split()),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={page.parent / 'profile'}"),
            *(f"--window-size={width},900", "--virtual-time-budget=4000", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.mark.slow
@needs_chromium
def test_the_page_may_not_load_anything(page: str, tmp_path: Path):
    """What the next test relies on: a load from outside is stopped by the page's own policy, and shows in the log."""
    outside = '<img src="http://localhost:9/x.png">'
    assert "Content Security Policy" in browse(tmp_path / "p.html", page.replace("</body>", outside), 800).stderr


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_it_without_errors_requests_or_overlaps(page: str, tmp_path: Path, width: int):
    done = browse(tmp_path / "probe.html", page.replace("</body>", PROBE + "</body>"), width)
    assert "CONSOLE" not in done.stderr, done.stderr
    text = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text is not None, "the page's script did not get to its end"
    seen = json.loads(text[1])
    assert seen["resources"] == []
    numbers = [float(v) for v in seen["up"] if v]
    assert numbers == sorted(numbers)
    assert len(numbers) == 35
    assert all(v == "" for v in seen["up"][35:] + seen["down"][35:])  # what is missing goes last, both ways
    assert [float(v) for v in seen["down"] if v] == numbers[::-1]
    assert (seen["upState"], seen["downState"]) == ("ascending", "descending")
    assert (seen["count"], seen["visible"]) == ("6 of 48", 6)
    assert seen["hidden"] > 0
    assert seen["pressed"] == "false"
    assert seen["restored"]
    assert not seen["wide"], "the page is wider than the window"
    assert seen["texts"] > 50
    assert seen["overlaps"] == 0
