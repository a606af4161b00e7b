"""The report in a real browser: Chromium through Playwright, where both are installed.

It loads without an error or a request, sorts, filters, turns dark, works from the keyboard, and is not wider than a
phone or a sheet of paper.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scoresde.bench.report import write_report
from tests.bench.made_up_report import made_up_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]

PHONE, DESK = 360, 1280


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(made_up_folder(tmp_path_factory.mktemp("report") / "made up"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


class Opened:
    """The report in a window of that width, with all that it asked for and complained about."""

    def __init__(self, browser: Browser, report: Path, width: int = DESK, **options: Any) -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(report.as_uri())

    def column(self, heading: str) -> list[str]:
        """The numbers of the visible rows, as they sort."""
        return self.page.evaluate(
            """(heading) => {
                const heads = [...document.querySelectorAll("#all thead th")];
                const at = heads.findIndex((head) => head.textContent.trim() === heading);
                const rows = [...document.querySelectorAll("#all tbody tr")].filter((row) => row.checkVisibility());
                return rows.map((row) => row.cells[at].dataset.value ?? row.cells[at].textContent);
            }""",
            heading,
        )

    def count(self) -> str:
        return self.page.locator("#count").inner_text()

    def too_wide(self) -> list[str]:
        """What sticks out of the window, except inside a box that scrolls."""
        return self.page.evaluate(
            """() => {
                const room = document.documentElement.clientWidth;
                const free = (e) => e.checkVisibility() && !e.closest(".scroll, pre, svg");
                const out = [...document.querySelectorAll("body *")].filter(
                    (e) => free(e) && e.getBoundingClientRect().right > room + 1);
                const page = document.documentElement.scrollWidth > room ? ["the page"] : [];
                return [...page, ...out.map((e) => e.tagName + "." + e.className)];
            }"""
        )


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    window = Opened(browser, report)
    yield window
    window.page.close()


def test_it_asks_for_nothing_and_complains_about_nothing(opened: Opened, report: Path):
    for select in opened.page.locator("[data-budget]").all():
        select.select_option(index=0)
    for button in opened.page.locator("[data-toggle], [data-every]").all():
        button.click()
    opened.page.get_by_role("button", name="Copy").click()
    opened.page.wait_for_function("['Copied', 'Selected'].includes(document.getElementById('copy').textContent)")
    own = [url for url in opened.requests if not url.startswith(("data:", report.as_uri()))]
    assert own == []
    assert opened.complaints == []


def test_what_the_last_test_relies_on(browser: Browser, report: Path, tmp_path: Path):
    """A request from the page would be seen, and its own policy stops it."""
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(
        report.read_text(encoding="utf-8").replace("</body>", '<img src="http://localhost:9/x.png"></body>')
    )
    window = Opened(browser, spoiled)
    assert any("Content Security Policy" in text for text in window.complaints)
    window.page.close()


def test_columns_sort_both_ways_with_what_is_missing_last(opened: Opened):
    heading = opened.page.get_by_role("columnheader", name="Same-seed error")
    heading.get_by_role("button").click()
    rising = opened.column("Same-seed error")
    assert heading.get_attribute("aria-sort") == "ascending"
    numbers = [float(value) for value in rising if value]
    assert len(numbers) == 53  # 54 deterministic cells, one of them failed
    assert numbers == sorted(numbers)
    assert rising[53:] == [""] * 19
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert opened.column("Same-seed error") == rising[52::-1] + [""] * 19
    assert opened.page.locator('[aria-sort="none"]').count() == len(opened.page.locator("#all thead th").all()) - 1


def test_words_and_menus_filter_together(opened: Opened):
    assert opened.count() == "72 of 72"
    opened.page.get_by_label("contains").fill("DPMPP-3m mixture")
    assert opened.count() == "12 of 72"
    filters = opened.page.get_by_role("search")
    filters.get_by_label("NFE asked").select_option("10")
    assert opened.count() == "4 of 72"
    assert opened.column("NFE asked") == ["10"] * 4
    filters.get_by_role("button", name="Reset").click()
    assert opened.count() == "72 of 72"
    assert filters.get_by_label("target").locator("option").all_inner_texts() == ["all", "digits", "mixture"]
    filters.get_by_label("status").select_option("failed")
    assert opened.column("status") == ["failed"]


def test_solvers_are_hidden_and_budgets_chosen(opened: Opened):
    drawn = opened.page.locator("#panel-0 .chart [data-series]:not(.off)")
    every = drawn.count()
    button = opened.page.locator("#panel-0 [data-toggle]").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert 0 < drawn.count() < every
    button.click()
    assert drawn.count() == every
    tables = opened.page.locator("#grids .heat-group").first
    assert tables.locator(".heat-table:visible").get_attribute("data-nfe") == "10"
    tables.locator("select").select_option("20")
    assert tables.locator(".heat-table:visible").get_attribute("data-nfe") == "20"


@pytest.mark.parametrize(
    ("system", "first", "other"), [("light", (255, 13), (13, 255)), ("dark", (13, 255), (255, 13))]
)
def test_light_and_dark(browser: Browser, report: Path, system: Any, first: Any, other: Any):
    window = Opened(browser, report, color_scheme=system)
    assert brightness(window.page) == pytest.approx(first, abs=26)
    window.page.locator("#theme").click()
    assert brightness(window.page) == pytest.approx(other, abs=26)
    window.page.close()


def brightness(page: Page) -> tuple[float, float]:
    """Of the ground and of the ink, as the browser has them."""
    found = page.evaluate(
        """() => {
            const style = getComputedStyle(document.body);
            const mean = (text) => text.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part) / 3, 0);
            return [mean(style.backgroundColor), mean(style.color)];
        }"""
    )
    return found[0], found[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(browser: Browser, report: Path, scheme: Any):
    """A contrast of 4.5 or more (WCAG 2.2, 1.4.3), of all text against the nearest ground that is painted."""
    window = Opened(browser, report, color_scheme=scheme)
    poor = window.page.evaluate(
        """() => {
            const parts = (text) => text.match(/[0-9.]+/g).map(Number);
            const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
            const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
            const ground = (e) => {
                for (; e; e = e.parentElement) {
                    const c = parts(getComputedStyle(e).backgroundColor);
                    if (c.length < 4 || c[3] > 0) return c;
                }
            };
            const poor = new Set();
            for (const e of document.querySelectorAll("body *")) {
                const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
                if (!own || !e.checkVisibility() || e.closest("script")) continue;
                const style = getComputedStyle(e);
                const ink = e.closest("svg") ? style.fill : style.color;
                const [a, b] = [light(parts(ink)), light(ground(e))].sort((x, y) => x - y);
                const ratio = (b + 0.05) / (a + 0.05);
                if (ratio < 4.5) poor.add(`${e.tagName}.${e.className.baseVal ?? e.className} ${ratio.toFixed(2)}`);
            }
            return [...poor];
        }"""
    )
    window.page.close()
    assert poor == []


def test_it_works_from_the_keyboard(opened: Opened):
    """Tab reaches the button of the theme, the sections, and the heads of the table; Enter and Space press them."""
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Space")
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#failures"
    page.get_by_label("status").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "NFE counted":
            break
    page.keyboard.press("Enter")
    assert page.get_by_role("columnheader", name="NFE counted").get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize("width", [PHONE, 768, DESK])
def test_nothing_is_wider_than_the_window_or_lies_over_another(browser: Browser, report: Path, width: int):
    window = Opened(browser, report, width)
    assert window.too_wide() == []
    over = window.page.evaluate(
        """() => {
            const box = (e) => e.getBoundingClientRect();
            const aside = (a, b) => a.right < b.left + 1 || a.bottom < b.top + 1;
            const across = (a, b) => a.left > b.left - 1 && a.right < b.right + 1;
            const inside = (a, b) => across(a, b) && a.top > b.top - 1 && a.bottom < b.bottom + 1;
            const found = [];
            const pairs = (all, name) => all.forEach((a, i) => {
                for (const b of all.slice(i + 1)) if (!aside(a, b) && !aside(b, a)) found.push(name);
            });
            for (const svg of document.querySelectorAll(".chart")) {
                const texts = [...svg.querySelectorAll("text")].map(box);
                for (const text of texts) if (!inside(text, box(svg))) found.push("outside");
                pairs(texts, "texts of a chart");
            }
            pairs([...document.querySelectorAll(".view, figure, .legend button")].map(box), "blocks");
            return found;
        }"""
    )
    window.page.close()
    assert over == []


def test_paper_shows_everything_in_black_on_white(browser: Browser, report: Path, tmp_path: Path):
    a4, wide = 680, 1040  # CSS pixels between the margins of a sheet upright, and on its side
    window = Opened(browser, report, a4, color_scheme="dark")
    window.page.emulate_media(media="print", color_scheme="dark")
    assert brightness(window.page) == (255, 0)
    assert window.page.locator("nav, #theme, .filters, .chooser, #copy").filter(visible=True).count() == 0
    assert window.page.locator(".heat-table").filter(visible=True).count() == window.page.locator(".heat-table").count()
    cut = "(all) => all.filter((e) => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1).length"
    assert window.page.locator(".scroll:not(.tall), pre").evaluate_all(cut) == 0
    window.page.set_viewport_size({"width": wide, "height": a4})
    assert window.page.locator(".tall").evaluate_all(cut) == 0
    window.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    window.page.close()
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
