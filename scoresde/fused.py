"""A plan as tensors, run by one compiled kernel a row.

Every row of a plan is put into one form: the same inputs (state, anchor, predictions told, history, noises), the same
outputs, and a vector of coefficients on the device in place of floats in the code. So :func:`advance` is compiled once
for a plan, and not again from row to row, and reads and writes each tensor once. :class:`FusedRun` is used wherever a
:class:`scoresde.Run` is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from scoresde.predictions import Kind, convert
from scoresde.rows import Mix
from scoresde.run import Run
from scoresde.script import Line
from scoresde.sources import Noise

if TYPE_CHECKING:
    from scoresde.plan import Plan

Tensors = tuple[Tensor, ...]


def advance(
    states: Tensors, told: Tensors, history: Tensors, noises: Tensors, coefficients: Tensor
) -> tuple[Tensors, Tensors]:
    """One row of a plan, a pure function of tensors.

    Args:
        states: the state, and the anchor if the plan has one.
        told: the predictions of the row, as they were told.
        history: earlier predictions, newest first.
        noises: of the row.
        coefficients: first of the state and of what was told in each prediction as the history keeps it, then of
            states, these predictions, history and noises in each new state.

    Returns:
        The new states, and the predictions as the history keeps them.
    """
    c = coefficients.unbind()
    kept = tuple(c[2 * j] * states[0] + c[2 * j + 1] * prediction for j, prediction in enumerate(told))
    values = (*states, *kept, *history, *noises)
    new = []
    for i in range(len(states)):
        at = 2 * len(told) + i * len(values)
        total = c[at] * values[0]
        for j in range(1, len(values)):
            total = total + c[at + j] * values[j]
        new.append(total)
    return tuple(new), kept if history else ()


class Form(NamedTuple):
    """How many tensors of each sort a row of a plan has, at most: the form that all its rows are put into."""

    states: int
    told: int
    history: int
    noises: int

    @classmethod
    def of(cls, plan: Plan) -> Form:
        """The form of a plan; its states are 2 if any row has an anchor of its own."""
        noises = max(len(plan.script[i, row.kind].noises) for i, row in enumerate(plan.rows))
        anchors = any(row.anchor is not None for row in plan.rows)
        return cls(1 + anchors, max(row.made for row in plan.rows), plan.memory, noises)

    def coefficients(self, plan: Plan, i: int, kind: Kind) -> list[float]:
        """The coefficients of row i, told predictions of this kind, in the order in which :func:`advance` takes them.

        Raises:
            ValueError: this kind cannot be converted at this row.
        """
        row, noises = plan.rows[i], plan.script[i, kind].noises
        on_x, on_told = (0.0, 1.0) if row.at is None else convert(kind, row.kind, row.at.alpha, row.at.sigma)
        before, after = plan.script.scales(kind)[i : i + 2]
        scales = [*after[: row.made], *[1.0] * (row.made - len(after)), *before]  # of the predictions as they are kept
        conversions = [c * scale for scale in scales[: row.made] for c in (on_x, on_told)]

        def spread(m: Mix) -> list[float]:
            drawn = dict(m.z)
            d = [c / scale for c, scale in zip(m.d, scales, strict=False)]
            return [
                *((m.x, m.anchor) if self.states == 2 else (m.x + m.anchor,)),
                *_padded(d[: row.made], self.told),
                *_padded(d[row.made :], self.history),
                *_padded([drawn.get(k, 0.0) for k in noises], self.noises),
            ]

        anchor = spread(row.x if row.anchor is None else row.anchor) if self.states == 2 else []
        return [*_padded(conversions, 2 * self.told), *spread(row.x), *anchor]


def _padded(numbers: Sequence[float], count: int) -> list[float]:
    return [*numbers, *[0.0] * (count - len(numbers))]


@cache
def _compiled(form: Form, backend: str) -> Callable[..., tuple[Tensors, Tensors]]:
    """:func:`advance`, compiled for plans of this form.

    torch keeps the compiled versions of a function with its code, and only a few of them, so each form has its own.
    """
    code = advance.__code__.replace(co_name="advance_" + "_".join(map(str, form)))
    return torch.compile(FunctionType(code, advance.__globals__), fullgraph=True, backend=backend)


class FusedRun(Run):
    """A :class:`scoresde.Run` in which each row is one call of a compiled :func:`advance`; equal to rounding.

    It holds a few more tensors than a Run: an anchor of its own, and as many as a row can take predictions, history and
    noises. Plans of one form (:class:`Form`) share the compiled code, whose first call takes seconds. It computes all
    places of the form, also those that a row leaves empty, which a Run does not: on a CPU it pays for multistep methods
    on large tensors, if at all. Not compiled, it is several times slower than a Run.

    Args:
        plan: the plan, of any solver with fixed steps.
        x_T, seed, index, noise, check: as of :meth:`scoresde.Plan.start`.
        compile: True for torch's own compiler (it needs a C++ compiler for tensors on the CPU, and Triton for CUDA),
            the name of another backend of ``torch.compile``, or False to call :func:`advance` as it is.
    """

    _backend: bool | str = True

    def __init__(
        self,
        plan: Plan,
        x_T: Tensor,
        *,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        noise: Noise | None = None,
        check: str = "end",
        compile: bool | str = True,
    ) -> None:
        self._backend = compile
        super().__init__(plan, x_T, seed=seed, index=index, noise=noise, check=check)

    def _prepare(self, plan: Plan, dtype: torch.dtype) -> None:
        super()._prepare(plan, dtype)
        self._form = form = Form.of(plan)
        backend = self._backend
        self._advance = _compiled(form, "inductor" if backend is True else backend) if backend else advance
        # Compiled code is checked for which of its inputs are one tensor. So that the answer is the same at every row,
        # no two of ours are: each empty place has zeros of its own.
        self._empty = [[torch.zeros_like(self._x) for _ in range(n)] for n in (1, form.told, form.history, form.noises)]
        self._coefficients: dict[Kind, dict[int, Tensor]] = {}

    def _apply(self, line: Line, told: Sequence[Tensor]) -> None:
        for_anchor, for_told, for_history, for_noises = self._empty
        noises = [z.contiguous() for z in self._draw(line)]  # of one layout, or there would be code for each
        if self._form.states == 1:
            states = (self._x,)
        elif self._anchor is self._x:
            states = (self._x, for_anchor[0].copy_(self._x))
        else:
            states = (self._x, self._anchor)
        new, kept = self._advance(
            states,
            (*told, *for_told[len(told) :]),
            (*self._history, *for_history[len(self._history) :]),
            (*noises, *for_noises[len(noises) :]),
            self._table(line.kind)[self._row],
        )
        self._x, self._anchor = new[0], new[-1]
        self._history, self._scales = [*kept[: len(told)], *self._history][: line.keep], line.leaves
        self._row += 1

    def _table(self, kind: Kind) -> dict[int, Tensor]:
        """For each row at which this kind can be converted, its coefficients; made when the kind is first told."""
        if kind not in self._coefficients:
            self._coefficients[kind] = table = {}
            for i in range(len(self.plan.rows)):
                with suppress(ValueError):  # where it is told, the script says what is wrong
                    numbers = self._form.coefficients(self.plan, i, kind)
                    table[i] = torch.tensor(numbers, dtype=self._x.dtype).to(self._x.device)
        return self._coefficients[kind]
