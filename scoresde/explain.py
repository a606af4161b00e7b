"""The catalogue of solvers for people to read: all of them in a list, or one with its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def print_catalogue(out: Console) -> None:
    """One line of numbers a solver; below it what it is, its other names and its paper, over the whole width."""
    from textwrap import fill

    from rich.text import Text

    from scoresde.catalogue import TABLE
    from scoresde.catalogue import solvers as catalogue
    from scoresde.rows import Solver

    def line(*cells: str) -> str:
        name, order, predicts, calls, memory, noise = cells
        return f"{name:<30} {order:>5}  {predicts:<8} {calls:>8} {memory:>6}  {noise}".rstrip()

    wide = out.width if out.is_terminal else 1000  # a line of a file is one thing to search
    out.print(Text(line("name", "order", "predicts", "NFE/step", "memory", "noise"), "bold underline"))
    for name, solver in catalogue().items():
        fixed = isinstance(solver, Solver)
        cost = (str(solver.evaluations), str(solver.memory)) if fixed else ("lazy", "")
        order = solver.converges if fixed else solver.order
        shown = (name, str(order or "–"), solver.kind, *cost, "" if solver.deterministic else "yes")
        out.print(Text(line(*shown), "bold"))
        entry = TABLE[name]
        also = f" Also: {', '.join(entry.aliases)}." if entry.aliases else ""
        about = f"{entry.summary[:1].upper()}{entry.summary[1:]}.{also} {solver.paper}."
        out.print(Text(fill(about, wide, initial_indent="    ", subsequent_indent="    ")))


def explain(name: str, sde: str, grid: str, steps: int) -> str:
    """What this solver is, and its plan on a small grid.

    Raises ValueError for an unknown solver, process or grid.
    """
    import inspect

    from scoresde.catalogue import TABLE, get_solver, split_name
    from scoresde.grids import get_grid
    from scoresde.sample import make_plan
    from scoresde.sde import sde_from_config

    found, named_grid = split_name(name)
    solver, process = get_solver(found), sde_from_config({"name": sde})
    grid = grid if named_grid is None else named_grid
    aliases = ", ".join(TABLE[found].aliases)
    lines = [f"{found}: {TABLE[found].summary}" + (f" (also: {aliases})" if aliases else ""), ""]
    lines += [
        inspect.getdoc(type(solver)) or "",
        "",
        f"{solver!r}",
        "",
        f"Its plan for {sde}, {grid} grid, {steps} steps:",
        "",
    ]
    return "\n".join([*lines, str(make_plan(solver, process, get_grid(grid, process, steps)))])
