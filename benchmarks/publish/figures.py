"""The figures of the page: the best of each package against network calls and against time, as SVG files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from statistics import fmean

from benchmarks.publish.arenas import Arena
from scoresde.bench import charts
from scoresde.bench.analysis import pareto_front
from scoresde.bench.charts import Dot, Line, number
from scoresde.bench.measures import MEASURES

# A picture in a page has no style but its own; the colours are those of the report, which colour-blind readers can tell
# apart on both grounds, and every line has its own marker as well.
STYLE = """
svg { font: 13px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; --ground: #fff; --ink: #16191d;
  --soft: #555d68; --rule: #dde1e6; }
.s0 { color: #0072b2; } .s1 { color: #d55e00; } .s2 { color: #00845f; } .s3 { color: #a3367f; }
.s4 { color: #b07d00; } .s5 { color: #3a9bd9; } .s6 { color: #5b5b5b; } .s7 { color: #7a4ecb; }
.s8 { color: #a8323a; } .s9 { color: #4a7c1f; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #101317; --ink: #e9ecf0; --soft: #a3acb8; --rule: #313842; }
  .s0 { color: #56a9e8; } .s1 { color: #ff8f4d; } .s2 { color: #35c795; } .s3 { color: #ea8cc6; }
  .s4 { color: #efc042; } .s5 { color: #9bd6ff; } .s6 { color: #c3c7cd; } .s7 { color: #b59cff; }
  .s8 { color: #ff8f92; } .s9 { color: #a5d66b; }
}
.ground { fill: var(--ground); } text { fill: var(--ink); } .tick { fill: var(--soft); }
.rule { stroke: var(--rule); fill: none; } .axis { stroke: var(--soft); fill: none; }
.front { fill: none; stroke: var(--ink); stroke-width: 1.4; stroke-dasharray: 2 4; stroke-linecap: round; }
.band, .box { fill: currentColor; opacity: .16; } .line { fill: none; stroke: currentColor; stroke-width: 2; }
.icon path:first-child { stroke: currentColor; stroke-width: 2; fill: none; }
.mark { fill: currentColor; stroke: var(--ground); }
.hollow { fill: var(--ground); stroke: currentColor; stroke-width: 1.6; }
"""
MARGIN, LINE = 8, 22  # around the chart, and the height of a line of the legend
CALLS = "network calls per sample (NFE)"
TIME = "sampling time (ms per sample)"


def figures(name: str, found: list[Arena]) -> dict[str, str]:
    """Two pictures for each headline metric of each arena: file names and their content."""
    return {
        f"{stem(name, arena, metric)}-{kind}.svg": text
        for arena in found
        for metric in arena.headlines
        for kind, text in _pair(arena, metric).items()
    }


def stem(name: str, arena: Arena, metric: str) -> str:
    """The file name of an arena's figures, without their kind and ending."""
    words = f"{name} {arena.title} {metric}".lower()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in words).split())


def _pair(arena: Arena, metric: str) -> Mapping[str, str]:
    lines = list(_lines(arena, metric))
    timed = [Line(line.label, line.number, line.dashed, _timed(arena, metric, line)) for line in lines]
    front = pareto_front((dot.x, dot.summary.value) for line in timed for dot in line.dots if dot.summary.value > 0)
    axis = MEASURES[metric].axis
    return {
        "calls": _picture(arena, charts.curve_chart(lines[::-1], CALLS, axis), lines),
        "time": _picture(arena, charts.cost_chart(timed[::-1], front, TIME, axis), timed),
    }


def _lines(arena: Arena, metric: str) -> Iterator[Line]:
    """The best of each package at each budget."""
    for place, package in enumerate(arena.packages):
        dots = []
        for nfe in arena.nfes:
            best = arena.best(package, metric, nfe)
            if best is not None:
                dots.append(Dot(nfe, best[1], f"{package} at {nfe}: {best[0].name}, {number(best[1].value)}"))
        if dots:
            yield Line(package, place, False, tuple(dots))


def _timed(arena: Arena, metric: str, line: Line) -> tuple[Dot, ...]:
    """The same dots at the time that they took, the mean and the range of the seeds."""
    found = []
    for dot in line.dots:
        best = arena.best(line.label, metric, int(dot.x))
        if best is not None:
            times = best[0].times[int(dot.x)]
            found.append(Dot(fmean(times), dot.summary, dot.text, (min(times), max(times))))
    return tuple(found)


def _picture(arena: Arena, chart: str, lines: list[Line]) -> str:
    """The chart with its title and legend, as a file of its own."""
    width, title = charts.WIDTH + 2 * MARGIN, 30
    columns = 3
    rows = -(-len(lines) // columns)
    height = title + charts.HEIGHT + rows * LINE + 2 * MARGIN
    legend = "".join(
        f'<g transform="translate({MARGIN + charts.LEFT + place % columns * 125} '
        f'{title + charts.HEIGHT + MARGIN + place // columns * LINE})">{charts.marker_icon(line.number, line.dashed)}'
        f'<text x="32" y="12">{escape(line.label)}</text></g>'
        for place, line in enumerate(lines)
    )
    placed = f'<svg x="{MARGIN}" y="{title}" width="{charts.WIDTH}" height="{charts.HEIGHT}"'
    body = chart.replace("<svg", placed, 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<style>{STYLE}</style><rect class="ground" width="{width}" height="{height}"/>'
        f'<text x="{MARGIN + charts.LEFT}" y="20" font-weight="600">Best of each package: {escape(arena.title)}</text>'
        f"{body}{legend}</svg>\n"
    )
