"""One self-contained HTML page from a results folder: nothing on it is loaded from anywhere else."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from scoresde.bench.analysis import failures, families, panels
from scoresde.bench.charts import number
from scoresde.bench.measures import MEASURES
from scoresde.bench.report.cells import columns_of, row_view
from scoresde.bench.report.facts import environment, suite_toml
from scoresde.bench.report.grid import grid_views
from scoresde.bench.report.panel import panel_view, series_numbers
from scoresde.bench.report.verdicts import verdict_view
from scoresde.bench.store import Store, write_atomically
from scoresde.bench.suite import Cell, Suite, suite_from_dict


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of the results in ``folder`` (to ``folder/report.html`` unless told otherwise); its path.

    Raises ValueError when the folder holds no results.
    """
    path = folder / "report.html" if out is None else out
    write_atomically(path, render(folder).encode())
    return path


def render(folder: Path) -> str:
    """The page as text. It follows from the files in the folder alone, so the same results give the same page.

    Raises ValueError when the folder holds no results.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    store = Store(folder)
    rows = ordered_rows(store)
    if not rows:
        raise ValueError(
            f"folder {str(folder)!r} holds no benchmark results; run `scoresde bench --out {folder}` first"
        )
    run = {"command": "", "seconds": None, "computed": 0, **(store.read_json(store.run_path) or {})}
    found = panels(rows, store.pooled())
    related = families(found)
    numbers, columns, anchors = series_numbers(found), columns_of(rows), _anchors(found)
    here = files(__name__)
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["number"] = number
    template = page.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        css=Markup(here.joinpath("page.css").read_text(encoding="utf-8")),
        js=Markup(here.joinpath("page.js").read_text(encoding="utf-8")),
        suite=run.get("suite", {}).get("name", folder.name),
        description=run.get("suite", {}).get("description", ""),
        verdicts=[verdict_view(family, anchors[family.panels[0].key]) for family in related],
        grids=[view for family in related for view in grid_views(family)],
        panels=[panel_view(panel, anchors[panel.key], numbers, store) for panel in found],
        columns=columns,
        rows=[row_view(row, columns) for row in rows],
        failures=failures(rows),
        environment=environment(rows),
        run=run,
        recipe=suite_toml(run["suite"]) if "suite" in run else "",
        measures={name: MEASURES[name] for name in MEASURES if any(name in panel.measures for panel in found)},
    )


def ordered_rows(store: Store) -> list[dict[str, Any]]:
    """The rows of the folder: those of the last suite in its order, then those of earlier ones."""
    suite = last_suite(store)
    place = {cell.stem: index for index, cell in enumerate(suite.cells())} if suite else {}
    return sorted(store.rows(), key=lambda row: place.get(Cell.from_config(row["config"]).stem, len(place)))


def last_suite(store: Store) -> Suite | None:
    """The suite that was run last in this folder, if it can still be read."""
    run = store.read_json(store.run_path)
    try:
        return suite_from_dict(run["suite"]) if run else None
    except (KeyError, ValueError):
        return None


def _anchors(found: Any) -> dict[str, tuple[str, str]]:
    """An id and a title for each panel; with its sample count and dtype where those tell two of them apart."""
    plain = [panel.title for panel in found]
    return {
        panel.key: (
            f"panel-{index}",
            panel.title if plain.count(panel.title) == 1 else f"{panel.title} · {panel.samples} samples, {panel.dtype}",
        )
        for index, panel in enumerate(found)
    }
