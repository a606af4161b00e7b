"""A plan being executed, as ask/tell: the one loop that every sampler shares, with its state in the open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from scoresde.errors import choose
from scoresde.mix import linear, mixed, zero
from scoresde.predictions import Kind, convert
from scoresde.script import FIRST, Line
from scoresde.sde import Point
from scoresde.sources import Noise, NoisePath, Noises, NoiseSource

if TYPE_CHECKING:
    from scoresde.plan import Plan

CHECKS = {"end": "end", "each": "each", "off": "off"}
FORMAT = "scoresde-run/1"


class Stepping(Protocol):
    """What drives a sampler from outside: :class:`Run` and the lazy runs of :mod:`scoresde.adaptive` have this."""

    @property
    def done(self) -> bool:
        """Whether the sample is finished."""
        ...

    @property
    def x(self) -> Tensor:
        """The state to evaluate the network at."""
        ...

    @property
    def t(self) -> float:
        """The time to evaluate the network at."""
        ...

    @property
    def kind(self) -> str:
        """The kind of prediction that needs no conversion."""
        ...

    @property
    def nfe(self) -> int:
        """Predictions told so far."""
        ...

    @property
    def sample(self) -> Tensor:
        """The result."""
        ...

    def tell(self, prediction: Tensor, kind: Kind = "x0", unconditional: Tensor | None = None) -> None:
        """Give the prediction at (x, t), and that without the condition if the network is guided, and go on."""
        ...


def master_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a state of this dtype is accumulated: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def check_state(x_T: Any, name: str = "x_T") -> Tensor:
    """Return the state if a sampler can go on from it.

    Raises:
        TypeError: not a tensor of floating-point numbers.
        ValueError: no batch dimension, or an empty batch.
    """
    if not isinstance(x_T, Tensor) or not x_T.is_floating_point():
        got = x_T.dtype if isinstance(x_T, Tensor) else type(x_T).__name__
        raise TypeError(f"{name} must be a tensor of floating-point numbers, got {got}")
    if x_T.ndim < 1 or x_T.shape[0] < 1:
        raise ValueError(f"{name} must have shape (batch, ...) with at least one sample, got {tuple(x_T.shape)}")
    return x_T


class Predictions:
    """Takes predictions in: checks shape and kind, converts them, and notes which were not finite.

    A prediction is marked by its sum, which is finite only if every value is, and costs a tenth of counting them. Marks
    stay on the device and are read once at the end (no synchronisation in the loop), unless ``check`` is ``"each"``
    (stop at once) or ``"off"``.
    """

    def __init__(self, check: str) -> None:
        self.check = choose(check, CHECKS, "check")
        self.marks: list[Tensor] = []
        self.times: list[float] = []

    def receive(self, prediction: Tensor, x: Tensor, t: float, *, second: bool = False) -> Tensor:
        """The prediction, checked and marked, in the dtype of the master state x; the ``second`` of an evaluation
        shares the mark of the first.
        """
        if not isinstance(prediction, Tensor) or prediction.shape != x.shape:
            got = tuple(prediction.shape) if isinstance(prediction, Tensor) else type(prediction).__name__
            raise ValueError(f"prediction must be a tensor of shape {tuple(x.shape)}, like the state; got {got}")
        if prediction.dtype is not x.dtype:
            if not prediction.is_floating_point():
                raise TypeError(f"prediction must be a tensor of floating-point numbers, got {prediction.dtype}")
            prediction = prediction.to(x.dtype)
        if self.check != "off":
            mark = prediction.sum()
            if second:
                self.marks[-1] = self.marks[-1] + mark
            else:
                self.marks.append(mark)
                self.times.append(t)
            if self.check == "each":
                self.raise_if_bad(prediction, "it")
        return prediction

    def take(self, prediction: Tensor, kind: Kind, x: Tensor, at: Point, wanted: str) -> Tensor:
        """The prediction as :meth:`receive` gives it, as another kind."""
        on_x, on_prediction = convert(kind, wanted, at.alpha, at.sigma)
        return linear([(on_x, x), (on_prediction, self.receive(prediction, x, at.t))])

    def raise_if_bad(self, values: Tensor, what: str) -> None:
        """Read the marks; a ValueError names the first bad evaluation and how many ``values`` of ``what`` are bad."""
        if not self.marks:
            return
        for i, finite in enumerate(torch.isfinite(torch.stack(self.marks)).tolist()):
            if not finite:
                count = values.numel() - int(torch.isfinite(values).sum())
                raise ValueError(
                    f"the network's prediction at evaluation {i} of {len(self.marks)} (t={self.times[i]:.6g}) is not "
                    f"finite; {what} has {count} non-finite values of {values.numel()}. Check the network and its time "
                    "convention, or pass check='off'"
                )


class Run:
    """A plan being executed.

    ``run.x`` is the state and ``run.t`` the time to evaluate the network at next; ``run.tell(x0)`` goes on. When
    ``done``, ``run.sample`` is the result. The number of asks is the NFE. Between two asks a run holds ``plan.memory +
    2`` tensors of the sample's size at most: state, anchor and history; besides noises that a later row uses again
    (``plan.held``), and what a Brownian path keeps.

    Made by :meth:`scoresde.Plan.start`.
    """

    def __init__(
        self,
        plan: Plan,
        x_T: Tensor,
        *,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        noise: Noise | None = None,
        check: str = "end",
    ) -> None:
        x_T = check_state(x_T)
        self._row, self._nfe = 0, 0
        self._x = self._anchor = x_T.to(master_dtype(x_T.dtype))
        self._prepare(plan, x_T.dtype)
        self._predictions = Predictions(check)
        self._noises = Noises(noise, seed, index, self._x)
        self._held: dict[int, Tensor] = {}
        self._history: list[Tensor] = []
        self._scales: tuple[float, ...] = ()
        self._skip_rows_without_evaluation("x0")

    def _prepare(self, plan: Plan, dtype: torch.dtype) -> None:
        """Make ready to go on from the state: what a run knows besides, and does not save."""
        self.plan, self._script = plan, plan.script
        self._dtype = dtype
        self._zero = zero(self._x.dtype)

    # -- asking
    @property
    def done(self) -> bool:
        """Whether the sample is finished."""
        return self._row == len(self.plan.rows)

    @property
    def x(self) -> Tensor:
        """The state to evaluate the network at, in the dtype of x_T. It is never written to later."""
        return self._x if self._x.dtype is self._dtype else self._x.to(self._dtype)

    @property
    def point(self) -> Point:
        """The noise level to evaluate the network at."""
        if self.done:
            raise ValueError("the run is done: there is nothing to evaluate; read run.sample")
        at = self.plan.rows[self._row].at
        assert at is not None  # rows without an evaluation never wait
        return at

    @property
    def t(self) -> float:
        """The time to evaluate the network at."""
        return self.point.t

    @property
    def kind(self) -> str:
        """The kind of prediction that is mixed next; telling this kind avoids a conversion."""
        return "x0" if self.done else self.plan.rows[self._row].kind

    @property
    def anchored(self) -> bool:
        """Whether an anchor is kept apart from the state: an edit in place of the state would not reach it."""
        return self._anchor is not self._x

    @property
    def nfe(self) -> int:
        """Predictions told so far."""
        return self._nfe

    @property
    def sample(self) -> Tensor:
        """The result, in the dtype of x_T.

        Raises:
            ValueError: the run is not done, or a prediction was not finite.
        """
        if not self.done:
            raise ValueError(f"the run is not done: {self._nfe} of {self.plan.nfe} predictions told")
        self._predictions.raise_if_bad(self._x, "the sample")
        return self.x

    # -- telling
    def tell(self, prediction: Tensor, kind: Kind = "x0", unconditional: Tensor | None = None) -> None:
        """Give the network's prediction at (run.x, run.t) and advance to the next evaluation.

        Args:
            prediction: of the shape of run.x.
            kind: what it predicts: "x0" (the output of a Denoiser), "epsilon", "v", "flow" or "score"; or the
                preconditioning of a network whose own output it is (:class:`scoresde.EDMPrecond`).
            unconditional: of a guided network, its prediction without the condition, of the same kind. Only CFG++ uses
                it; None means that there is no guidance, and both are the same.

        Raises:
            ValueError: wrong shape, an unknown kind, the run is done, or (check="each") non-finite values.
        """
        line = self._script[self._row, kind]
        told = [self._predictions.receive(prediction, self._x, line.t)]
        if line.pair and unconditional is not None:
            told.append(self._predictions.receive(unconditional, self._x, line.t, second=True))
        elif line.pair:
            told *= 2
        if line.scales is not self._scales:
            self._rescale(line.scales)
        self._apply(line, told)
        self._nfe += 1
        self._skip_rows_without_evaluation(kind)

    def edit(self, x: Tensor) -> None:
        """Replace the state between two evaluations, as inpainting and callbacks of pipelines do.

        The edit carries on in full, whatever the method: it acts as if an earlier state had differed such that this one
        does. With all predictions held fixed, past and coming ones, the sample then differs by what remains of the edit
        at the end, the product of the factors of the state on the way. A method that goes on from an anchor (the start
        of a step with inner stages, the corrected state of UniPC) has the anchor moved to match; were it not, the edit
        would be lost with the stage. Past predictions stay: they are of the states that the network saw.

        Args:
            x: of the shape of run.x; kept in float32 or better.

        Raises:
            ValueError: wrong shape.
            TypeError: not a tensor of floating-point numbers.
        """
        x = check_state(x, "x")
        if x.shape != self._x.shape:
            raise ValueError(f"x must have the shape of the state, {tuple(self._x.shape)}; got {tuple(x.shape)}")
        old, self._x = self._x, x.to(self._x)
        if self._anchor is old:
            self._anchor = self._x
        elif share := self._script.shares[self._row]:
            self._anchor = self._anchor.add(self._x - old, alpha=share)

    def _apply(self, line: Line, told: Sequence[Tensor]) -> None:
        """Follow a line, told the predictions of its row: the one loop of every sampler."""
        values = [self._zero, self._x, self._anchor, *told, *self._history]
        for i, conversion in enumerate(line.converts, FIRST):
            values[i] = mixed(conversion, values)
        if line.noises:
            values += self._draw(line)
        self._x = mixed(line.x, values)
        self._anchor = self._x if line.anchor is None else mixed(line.anchor, values)
        self._history, self._scales = values[FIRST : FIRST + line.keep], line.leaves
        self._row += 1

    def _draw(self, line: Line) -> list[Tensor]:
        """The noises of a line; those that later rows use again are held."""
        for k in line.draws:
            self._held[k] = self._noises.draw(k, self.plan.spans[k], self._x)
        noises = [self._held[k] for k in line.noises]
        for k in line.drops:
            del self._held[k]
        return noises

    def _rescale(self, scales: tuple[float, ...]) -> None:
        """Keep the history as a line takes it, if the predictions before were told as another kind."""
        now = zip(self._history, self._scales, scales, strict=True)
        self._history = [m if old == new else m * (new / old) for m, old, new in now]

    def _skip_rows_without_evaluation(self, kind: Kind) -> None:
        while self._row in self._script.silent:
            self._apply(self._script[self._row, kind], ())

    # -- pausing
    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to go on later: tensors, numbers and the plan as JSON text."""
        marks = self._predictions.marks
        return {
            "format": FORMAT,
            "plan": self.plan.to_json(),
            "row": self._row,
            "nfe": self._nfe,
            "dtype": str(self._dtype).removeprefix("torch."),
            "seed": self._noises.seed,
            "index": self._noises.index if isinstance(self._noises.index, int) else list(self._noises.index),
            "noise": self._noises.mode,
            "held": dict(self._held),
            "check": self._predictions.check,
            "marks": torch.stack(marks) if marks else torch.zeros(0),
            "marked_times": list(self._predictions.times),
            "x": self._x,
            "anchor": None if self._anchor is self._x else self._anchor,
            "history": list(self._history),
            "scales": list(self._scales),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], *, noise: NoiseSource | NoisePath | None = None) -> Run:
        """Go on from :meth:`state_dict`; the rest of the run is bitwise what it would have been.

        Args:
            state: of :meth:`state_dict`.
            noise: the noise function or path of your own, if the run was started with one (they are not saved).

        Raises:
            ValueError: not the state of a run, or its noise function is missing, or one is given that it did not have.
        """
        from scoresde.plan import Plan  # plan imports this module

        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError(f"state is not a saved run of format {FORMAT!r}")
        mode = state.get("noise", "user" if state.get("user_noise") else "independent")
        if (mode == "user") != (noise is not None):
            what = "a noise function or path; pass the same one" if noise is None else f"noise={mode!r}; pass none"
            raise ValueError(f"noise: this run was started with {what} to go on")
        run = cls.__new__(cls)
        run._x = state["x"]
        run._prepare(Plan.from_json(state["plan"]), getattr(torch, state["dtype"]))
        run._noises = Noises(noise or mode, state["seed"], state["index"], state["x"])
        run._held = dict(state.get("held", {}))
        run._predictions = Predictions(state["check"])
        run._predictions.marks, run._predictions.times = list(state["marks"].unbind()), list(state["marked_times"])
        run._row, run._nfe = state["row"], state["nfe"]
        run._anchor = run._x if state["anchor"] is None else state["anchor"]
        run._history = list(state["history"])
        run._scales = tuple(state.get("scales", [1.0] * len(run._history)))  # older files keep them as they are
        return run

    def save(self, path: str | Path) -> None:
        """Write the run to a file (torch format; tensors, numbers and text only)."""
        torch.save(self.state_dict(), path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        noise: NoiseSource | NoisePath | None = None,
        device: str | torch.device | None = None,
    ) -> Run:
        """Read a run that was saved with :meth:`save`. Nothing in the file is executed."""
        state = torch.load(path, weights_only=True, map_location=device)
        return cls.from_state_dict(state, noise=noise)

    def __repr__(self) -> str:
        where = "done" if self.done else f"next t={self.t:.4g}"
        return f"Run({self.plan.solver}, {self._nfe}/{self.plan.nfe} told, {where})"
