r"""Plans: what a solver makes of a process and a grid. A plan is data: it can be run, printed, compared, saved and
proven.

In the canonical form of a plan, the network sees

.. math:: x_i = A_i x_T + \sum_{j<i} B_{ij} m_j + \sum_k C_{ik} z_k

with :math:`m_j` the earlier predictions of :math:`x_0` and :math:`z_k` independent standard normal noises; the last row
is the sample. Two samplers are the same exactly when these matrices agree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde.errors import choose
from scoresde.gain import step_gain
from scoresde.predictions import PREDICTIONS
from scoresde.rows import Mix, Row, Solver, Span, Step
from scoresde.run import Run
from scoresde.script import Script
from scoresde.sde import SDE, Point
from scoresde.sources import Noise

FORMAT = "scoresde-plan/1"
CLOSEST = 1e-14  # share of a time by which the next one must be less: closer ones are one noise level, to rounding


class Matrices(NamedTuple):
    """The canonical form, float64 on the host: A (N+1,), B (N+1, N) strictly lower triangular, C (N+1, K).

    A row that keeps a pair (CFG++) has two columns of B, that of its guided prediction first.
    """

    A: Tensor
    B: Tensor
    C: Tensor


@dataclass(frozen=True)
class Plan:
    """A fixed-step sampler for one process and one grid.

    Attributes:
        rows: evaluations and mixes, in order (see :class:`scoresde.rows.Row`).
        begin, end: the noise levels of x_T and of the sample.
        solver: the name of the solver that planned it.
        spans: for each noise, over which part of a Brownian path it is the increment, or None if it is drawn apart; ()
            stands for all apart.

    Raises:
        ValueError: the rows are not a valid plan (no evaluation, unknown kinds, coefficients that are not finite, more
            predictions used than made, noises not numbered from 0), or the spans are not of its noises or overlap.
    """

    rows: tuple[Row, ...]
    begin: Point
    end: Point
    solver: str = "custom"
    spans: tuple[Span | None, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        made, noises = 0, set()
        for i, row in enumerate(self.rows):
            made += row.made
            if row.made:
                choose(row.kind, PREDICTIONS, f"rows[{i}].kind")
            for m in _mixes(row):
                numbers = (m.x, m.anchor, *m.d, *(c for _, c in m.z))
                if not all(math.isfinite(c) for c in numbers):
                    raise ValueError(f"rows[{i}] has a coefficient that is not finite: {m}")
                if not any(numbers):
                    raise ValueError(f"rows[{i}] has a mix with no non-zero coefficient")
                if len(m.d) > made:
                    raise ValueError(f"rows[{i}] mixes {len(m.d)} predictions, but only {made} have been made by then")
                noises |= {k for k, _ in m.z}
        if made == 0:
            raise ValueError("rows: a plan needs at least one evaluation of the network")
        if noises != set(range(len(noises))):
            raise ValueError(f"rows: noises must be numbered 0, 1, 2, ..., got {sorted(noises)}")
        object.__setattr__(self, "spans", tuple(self.spans) or (None,) * len(noises))
        _check_spans(self.spans, len(noises))

    # -- what it costs
    @cached_property
    def times(self) -> tuple[float, ...]:
        """The times at which the network is evaluated."""
        return tuple(row.at.t for row in self.rows if row.at is not None)

    @property
    def nfe(self) -> int:
        """Evaluations of the network."""
        return len(self.times)

    @cached_property
    def noises(self) -> int:
        """Independent noises drawn; 0 for a deterministic plan."""
        return len({k for row in self.rows for m in _mixes(row) for k, _ in m.z})

    @cached_property
    def keep(self) -> tuple[int, ...]:
        """For each row, how many of the newest predictions later rows still need."""
        need, keep = 0, []
        for row in reversed(self.rows):
            keep.append(need)
            need = max(need, *(len(m.d) for m in _mixes(row)), row.made) - row.made
        return tuple(reversed(keep))

    @cached_property
    def held(self) -> tuple[frozenset[int], ...]:
        """For each row, the noises drawn by then that later rows use again."""
        last_row = {k: i for i, row in enumerate(self.rows) for m in _mixes(row) for k, _ in m.z}
        held: list[frozenset[int]] = []
        for i, row in enumerate(self.rows):
            drawn = {k for m in _mixes(row) for k, _ in m.z}.union(held[-1] if held else ())
            held.append(frozenset(k for k in drawn if last_row[k] > i))
        return tuple(held)

    @property
    def memory(self) -> int:
        """Predictions held between two evaluations, at most; a run holds memory + 2 tensors of the sample's size."""
        return max(self.keep)

    # -- running
    @cached_property
    def script(self) -> Script:
        """What a run does at each row, ready to be done: the conversions and mixes of :class:`scoresde.script.Line`."""
        return Script(self)

    def start(
        self,
        x_T: Tensor,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        *,
        noise: Noise | None = None,
        check: str = "end",
    ) -> Run:
        """Start a run from the noisy state x_T (whose noise level is ``plan.begin``).

        Args:
            x_T: (batch, ...) of floating-point numbers. Half precision is accumulated in float32.
            seed: seed of the noises.
            index: index of the first sample (the others follow), or one for each; the noises of a sample depend on
                (seed, its index) only.
            noise: "independent" (default) draws each noise apart. "path" makes them the increments of one Brownian path
                a sample (:class:`scoresde.BrownianPath`), which runs of any number of steps share; noises that no path
                has (``spans`` is None) stay independent. Or your own: a function, called with k = 0, 1, ... once each,
                that gives a standard normal tensor like x_T; or a path, an object whose ``increment(s, t)`` gives one
                for a step between two noise levels.
            check: non-finite predictions are reported at the "end" (default), at "each" evaluation, or "off".
        """
        return Run(self, x_T, seed=seed, index=index, noise=noise, check=check)

    # -- proving
    def matrices(self) -> Matrices:
        """The canonical form, by running the plan on one-hot inputs; m_j are predictions of x0.

        Raises:
            ValueError: the plan mixes a kind of prediction that does not exist at the noise level of some row.
        """
        n, k = sum(row.made for row in self.rows), self.noises
        unit = torch.eye(1 + n + k, dtype=torch.float64)
        run = self.start(unit[:1], noise=lambda i: unit[1 + n + i, None], check="off")
        seen, j = [], 1
        for row in self.rows:
            if row.made:
                seen.append(run.x[0])
                run.tell(unit[j, None], unconditional=unit[j + 1, None] if row.pair else None)
                j += row.made
        table = torch.stack([*seen, run.sample[0]])
        return Matrices(table[:, 0], table[:, 1 : 1 + n], table[:, 1 + n :])

    def allclose(self, other: Plan, atol: float = 1e-12) -> bool:
        """Whether both plans evaluate at the same times and have the same canonical form, to ``atol``."""
        if (self.nfe, self.noises) != (other.nfe, other.noises):
            return False
        if any(abs(a - b) > atol * max(1.0, abs(a)) for a, b in zip(self.times, other.times, strict=True)):
            return False
        pairs = zip(self.matrices(), other.matrices(), strict=True)
        return all(torch.allclose(a, b, rtol=0.0, atol=atol) for a, b in pairs)

    # -- saving
    def to_json(self) -> str:
        """The plan as JSON text; floats are written so that they read back exactly."""
        rows = [
            {
                "at": None if row.at is None else list(row.at),
                "kind": row.kind,
                "x": _mix_to_dict(row.x),
                "anchor": None if row.anchor is None else _mix_to_dict(row.anchor),
                **({"pair": True} if row.pair else {}),
            }
            for row in self.rows
        ]
        top = {"format": FORMAT, "solver": self.solver, "begin": list(self.begin), "end": list(self.end), "rows": rows}
        if any(self.spans):
            top["spans"] = self.spans
        return json.dumps(top, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read :meth:`to_json`; the plan is validated and nothing is executed.

        Raises:
            ValueError: not JSON, not of this format, or not a valid plan; the message says where.
        """
        top = json.loads(text)
        if not isinstance(top, dict) or top.get("format") != FORMAT:
            raise ValueError(f"text is not a plan of format {FORMAT!r}")
        try:
            rows = tuple(
                Row(
                    None if r["at"] is None else Point(*map(float, r["at"])),
                    str(r["kind"]),
                    _mix_from_dict(r["x"]),
                    None if r["anchor"] is None else _mix_from_dict(r["anchor"]),
                    bool(r.get("pair", False)),
                )
                for r in top["rows"]
            )
            begin, end = Point(*map(float, top["begin"])), Point(*map(float, top["end"]))
            return cls(rows, begin, end, str(top["solver"]), tuple(map(_span_from, top.get("spans", ()))))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"text is not a valid plan of format {FORMAT!r}: {error!r}") from error

    def save(self, path: str | Path) -> None:
        """Write :meth:`to_json` to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a file written by :meth:`save`."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    # -- reading
    def __repr__(self) -> str:
        ends = f"t={self.begin.t:.4g} -> {self.end.t:.4g}"
        return f"Plan({self.solver}, {ends}, nfe={self.nfe}, memory={self.memory}, noises={self.noises})"

    def __str__(self) -> str:
        cells: list[tuple[str, ...]] = [("row", "t", "alpha", "sigma", "kind", "new state", "new anchor")]
        for i, row in enumerate(self.rows):
            level = ("-", "-", "-", "-") if row.at is None else (*(f"{v:.5g}" for v in row.at), row.kind)
            cells.append((str(i), *level, _mix_text(row.x), "" if row.anchor is None else _mix_text(row.anchor)))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        return "\n".join([repr(self), *lines])


def make_plan(solver: Solver, sde: SDE, grid: Iterable[float], *, most_gain: float = math.inf) -> Plan:
    """Plan a solver on a grid.

    Args:
        solver: of :func:`scoresde.get_solver`.
        sde: the process.
        grid: strictly decreasing times within [0, sde.T], of :func:`scoresde.get_grid` or your own.
        most_gain: steps that amplify more than this are taken with a lower order (see :class:`scoresde.Solver`); by
            default none is: every step is the textbook's, however long.

    Raises:
        TypeError: ``solver`` is not a solver.
        ValueError: the grid is not strictly decreasing times of the process (the message says where), or most_gain is
            below 1.
    """
    if not hasattr(solver, "rows"):
        raise TypeError(f"solver must be a fixed-step solver of scoresde.get_solver(...), got {solver!r}")
    if not most_gain >= 1.0:
        raise ValueError(f"most_gain must be at least 1, the gain of DDIM, got {most_gain}")
    return plan_steps(solver, sde, pairwise(check_grid(grid, sde)), most_gain=most_gain)


def check_grid(grid: Iterable[float], sde: SDE) -> list[float]:
    """Return the grid as floats.

    Raises:
        ValueError: fewer than two times, not finite, outside [0, sde.T], or not strictly decreasing, by more than
            rounding.
    """
    times = [float(t) for t in grid]
    if len(times) < 2:
        raise ValueError(f"grid needs at least 2 times, got {len(times)}")
    for i, t in enumerate(times):
        if not 0.0 <= t <= sde.T:
            raise ValueError(f"grid[{i}]={t} is outside [0, {sde.T}], the times of {sde!r}")
        if i and t >= times[i - 1]:
            what = "repeats" if t == times[i - 1] else "increases from"
            raise ValueError(f"grid must decrease strictly: grid[{i}]={t} {what} grid[{i - 1}]={times[i - 1]}")
        if i and times[i - 1] - t < CLOSEST * times[i - 1]:
            raise ValueError(
                f"grid must decrease by more than rounding (a share of {CLOSEST:g}): grid[{i}]={t} is too close to "
                f"grid[{i - 1}]={times[i - 1]}"
            )
    return times


def plan_steps(solver: Solver, sde: SDE, steps: Iterable[tuple[float, float]], *, most_gain: float = math.inf) -> Plan:
    """Plan a solver over explicit steps (s, t), which need not join up.

    Some well-known code moves the state to one time and labels it with another for the next call of the network; this
    can state such a sampler exactly, long steps included unless ``most_gain`` is given. A grid is the case where every
    step begins where the last one ended.
    """
    steps = list(steps)
    at = {time: sde.point(time) for time in dict.fromkeys(time for step in steps for time in step)}
    pairs = tuple((at[s], at[t]) for s, t in steps)
    rows: list[Row] = []
    past: list[Point] = []
    noises, noise = 0, pairs[0][0].sigma
    spans: list[Span | None] = []
    reached: Point | None = None
    for i, (s, t) in enumerate(pairs):
        step, first_noise = Step(sde, s, t, tuple(past), i, len(pairs), pairs), noises
        planned, used, noise = _step_rows(solver, step, noise, most_gain)
        past = list(used)
        for row in planned:
            row = _trimmed(row, first_noise)
            if row.at is not None:
                # A prediction of another kind is not one that this solver can extrapolate from, nor is one from pure
                # noise, unless its variable is finite there.
                usable = row.kind == solver.kind and (row.at.alpha > 0 or solver.starts_at_zero_snr)
                usable = usable and row.pair == solver.pairs
                past = [*[row.at] * row.made, *past] if usable else []
            rows.append(row)
            noises = max([noises, *(1 + k for m in _mixes(row) for k, _ in m.z)])
        del past[solver.memory :]
        drawn = noises - first_noise  # a step may draw fewer noises than a full one
        for span in (solver.noise_spans(step) or (None,) * drawn)[:drawn] if drawn else ():
            span = _from(reached, span)
            reached = span[1] if span else reached
            spans.append(span)
    return Plan(tuple(rows), pairs[0][0], pairs[-1][1], solver.name, tuple(spans))


def plan_step(solver: Solver, step: Step) -> Plan:
    """One step by itself, of a solver that keeps nothing across steps."""
    return Plan(
        tuple(_trimmed(row, 0) for row in _step_rows(solver, step, step.s.sigma, math.inf)[0]),
        step.s,
        step.t,
        solver.name,
    )


def _step_rows(
    solver: Solver, step: Step, noise: float, most_gain: float
) -> tuple[Sequence[Row], Sequence[Point], float]:
    """The rows of a step, the past predictions that are still of use after it, and the noise in the state it leaves."""
    if solver.takes(step):
        rows = solver.rows(step)
        if most_gain == math.inf:
            return rows, step.past, step.t.sigma
        cost, tried = _evaluations(rows), step
        for known in range(len(step.past), -1, -1):
            if known < len(step.past):  # with a shorter past a multistep method has a lower order
                tried = replace(step, past=step.past[:known])
                rows = solver.rows(tried)
            if _evaluations(rows) > cost:  # it would start anew, in several evaluations
                break
            gain, left = step_gain(rows, tried, noise, not solver.deterministic)
            if gain <= most_gain:
                return rows, tried.past, left
    row = ddim_row(step.s, step.t)
    return [row], step.past, row.x.x * noise


def ddim_row(s: Point, t: Point) -> Row:
    """DDIM from s to t, the limit of every exponential method at both ends: exact if the prediction of x0 stays the
    same.
    """
    kept = t.sigma / s.sigma
    return Row(s, "x0", Mix(x=kept, d=(t.alpha - kept * s.alpha,)))


def _evaluations(rows: Iterable[Row]) -> int:
    return sum(row.at is not None for row in rows)


def _from(reached: Point | None, span: Span | None) -> Span | None:
    """The part of a span that no earlier one has covered: steps that do not join up may overlap."""
    if span is None:
        return None
    s, t = span
    s = reached if reached is not None and reached.lam > s.lam else s
    return (s, t) if s.lam < t.lam else None


def _check_spans(spans: Sequence[Span | None], noises: int) -> None:
    if len(spans) != noises:
        raise ValueError(f"spans must have one entry for each of the {noises} noises, or none; got {len(spans)}")
    ends = sorted((s.lam, t.lam) for s, t in filter(None, spans))
    for k, span in enumerate(spans):
        if span and not span[0].lam < span[1].lam:
            raise ValueError(f"spans[{k}] must go from a noise level to a less noisy one, got {span}")
    for (_, end), (start, _) in pairwise(ends):
        if start < end:
            raise ValueError(f"spans overlap (at half log-SNR {start} to {end}), so their noises are not independent")


def _span_from(pair: Any) -> Span | None:
    return None if pair is None else (Point(*map(float, pair[0])), Point(*map(float, pair[1])))


def _mixes(row: Row) -> Iterator[Mix]:
    yield row.x
    if row.anchor is not None:
        yield row.anchor


def _trimmed(row: Row, first_noise: int) -> Row:
    """The row with noises numbered through the whole plan, and without trailing zeros."""

    def trim(m: Mix) -> Mix:
        d = m.d
        while d and d[-1] == 0.0:
            d = d[:-1]
        return Mix(m.x, m.anchor, tuple(d), tuple((first_noise + k, c) for k, c in m.z if c != 0.0))

    return row._replace(x=trim(row.x), anchor=None if row.anchor is None else trim(row.anchor))


def _mix_to_dict(m: Mix) -> dict[str, Any]:
    return {"x": m.x, "anchor": m.anchor, "d": list(m.d), "z": [list(pair) for pair in m.z]}


def _mix_from_dict(m: dict[str, Any]) -> Mix:
    d, z = tuple(map(float, m["d"])), tuple((int(k), float(c)) for k, c in m["z"])
    return Mix(float(m["x"]), float(m["anchor"]), d, z)


def _mix_text(m: Mix) -> str:
    names = [("x", m.x), ("anchor", m.anchor), *((f"m[{-j}]" if j else "m", c) for j, c in enumerate(m.d))]
    return " ".join(f"{c:+.5g} {name}" for name, c in [*names, *((f"z{k}", c) for k, c in m.z)] if c != 0.0)
