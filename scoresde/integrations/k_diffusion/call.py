"""One call of a sampling function: its arguments, checked, and the loop that drives a solver with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from scoresde.adaptive import LazySolver
from scoresde.integrations.k_diffusion.model import PROCESSES, as_model
from scoresde.integrations.k_diffusion.noise import Draw, called, independent
from scoresde.integrations.k_diffusion.progress import bar
from scoresde.plan import CLOSEST, make_plan
from scoresde.rows import Row, Solver, Span, Step
from scoresde.run import Stepping, check_state
from scoresde.sde import SDE, Point

Callback = Callable[[dict[str, Any]], Any]
Report = Callable[[int, Tensor, float, Tensor], None]
Spans = Callable[[Step], Sequence[Span | None]]
ROUNDING = 1e-6  # a sigma of a flow may exceed 1 by this: the shifts that people apply in float32 do


class Call:
    """The arguments that every sampling function has, checked before any work.

    Args:
        model: ``model(x, sigma, **extra_args)`` gives the denoised sample; a :class:`Model`, or a Denoiser.
        x: the noisy start, (B, ...).
        sigmas: strictly decreasing noise levels, as a tensor (N + 1,) or floats; the last may be 0.
        extra_args: keywords of the model, or None.
        callback: called once a step with a dict, or None.
        disable: no progress bar; None for one on a terminal.

    Raises:
        TypeError, ValueError: naming the argument, what it got and what would be right.
    """

    def __init__(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor | Sequence[float],
        extra_args: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
    ) -> None:
        self.model = as_model(model)
        self.flow = self.model.process == "flow"
        self.x = check_state(x, "x")
        self.sigmas, self.levels = _checked_levels(sigmas, x)
        if self.flow and self.levels[0] > 1.0:
            if self.levels[0] > 1.0 + ROUNDING:
                raise ValueError(f"sigmas of a model of process 'flow' are within [0, 1], got {self.levels[0]:g} first")
            self.levels[0] = 1.0
        if extra_args is not None and not isinstance(extra_args, Mapping):
            raise TypeError(f"extra_args must be a dict of keywords of the model, got {type(extra_args).__name__}")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable, got {type(callback).__name__}")
        self.extra_args, self.callback, self.disable = dict(extra_args or {}), callback, disable

    def draw(self, noise_sampler: Any, default: Callable[[Tensor], Draw] = independent) -> Draw:
        """The noises: of the user's sampler, or the default ones."""
        return default(self.x) if noise_sampler is None else called(noise_sampler, self.x, self.sigma)

    def sde(self, process: str | None = None) -> SDE:
        """The process whose times are the sigmas; the model's, or another one in whose arithmetic to go on."""
        low = min((level for level in self.levels if level > 0.0), default=1.0)
        # One positive level makes no range; nothing asks for the lower end then but an adaptive solver on its way to 0.
        low = low if low < self.levels[0] else 0.5 * low
        return PROCESSES[self.model.process if process is None else process].sde(low, self.levels[0])

    def solve(
        self,
        solver: Solver | LazySolver,
        draw: Draw,
        *,
        process: str | None = None,
        spans: Spans | None = None,
        report: Report | None = None,
        by_evaluation: bool = False,
    ) -> Tensor:
        """Take the solver along the sigmas.

        Args:
            solver: of the catalogue.
            draw: gives the noises.
            process: of which to use the arithmetic, if it is not the model's.
            spans: between which levels the noises of a step are asked for; by default the solver's own, or the step's
                ends.
            report: called at the first evaluation of each step with its number, the state, sigma and the denoised
                sample; by default it calls the user's callback.
            by_evaluation: the progress bar counts evaluations rather than steps.
        """
        if len(self.levels) == 1:
            return self.x
        sde = self.sde(process)
        if isinstance(solver, LazySolver):
            return self._solve_lazily(solver, sde, draw, report)
        noted = _Noted(solver, spans or solver.noise_spans)
        plan = make_plan(noted, sde, self.levels)  # type: ignore[arg-type]
        run = plan.start(self.x, noise=(lambda k: draw(*noted.noises[k])) if plan.noises else None)
        begins = noted.begins(len(self.levels) - 1)
        total = plan.nfe if by_evaluation else len(self.levels) - 1
        return self.drive(run, begins.get, report or self.report, total, solver.pairs, by_evaluation)

    def _solve_lazily(self, solver: LazySolver, sde: SDE, draw: Draw, report: Report | None) -> Tensor:
        """Which noise belongs where, only the solver knows: each is asked for between the level of the evaluation
        before it and the next lower one of the sigmas.
        """
        at = [self.levels[0]]

        def noise(k: int) -> Tensor:
            below = next((i for i, level in enumerate(self.levels) if level < at[0]), len(self.levels) - 1)
            return draw(below - 1, sde.point(at[0]), sde.point(self.levels[below]))

        def noting(i: int, x: Tensor, level: float, denoised: Tensor) -> None:
            at[0] = level
            (report or self.report)(i, x, level, denoised)

        run = solver.plan(sde, self.levels).start(self.x, noise=noise)
        return self.drive(run, lambda evaluation: evaluation, noting, None)

    def drive(
        self,
        run: Stepping,
        begins: Callable[[int], int | None],
        report: Report,
        total: int | None,
        pair: bool = False,
        by_evaluation: bool = False,
    ) -> Tensor:
        """Ask the model what the run wants to know, to the end.

        Args:
            run: of a plan.
            begins: the number of the step that an evaluation begins, or None.
            report: see :meth:`solve`.
            total: of the progress bar.
            pair: whether the solver uses the prediction without the condition.
            by_evaluation: see :meth:`solve`.
        """
        with torch.no_grad(), bar(total, self.disable) as advance:
            while not run.done:
                x, level = run.x, run.t
                denoised, unconditional = self.model.at(x, level, self.extra_args, pair=pair)
                step = begins(run.nfe)
                if step is not None:
                    report(step, x, level, denoised)
                if run.nfe and (by_evaluation or step is not None):
                    advance()
                run.tell(denoised, unconditional=unconditional)
            advance()
        return run.sample

    def report(self, i: int, x: Tensor, level: float, denoised: Tensor) -> None:
        """Call the user's callback as k-diffusion does."""
        if self.callback is not None:
            sigma_hat = self.sigma(level)
            sigma = self.sigmas[i] if i < len(self.levels) else sigma_hat
            self.callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma_hat, "denoised": denoised})

    def sigma(self, level: float) -> Tensor:
        """A noise level as a tensor (), like those of the user's sigmas; made without waiting for the device."""
        return torch.full((), level, dtype=self.sigmas.dtype, device=self.sigmas.device)


class _Noted:
    """A solver that notes what each of its steps evaluates and draws, while it is planned."""

    def __init__(self, solver: Solver, spans: Spans) -> None:
        self._solver, self._spans = solver, spans
        self.evaluations: dict[int, int] = {}
        self.noises: list[tuple[int, Point, Point]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._solver, name)

    def rows(self, step: Step) -> Sequence[Row]:
        rows = self._solver.rows(step)
        self.evaluations[step.index] = sum(row.at is not None for row in rows)
        mixes = [m for row in rows for m in (row.x, row.anchor) if m is not None]
        used = {k for m in mixes for k, c in m.z if c != 0.0}
        spans = self._spans(step)
        for k in sorted(used):
            span = spans[k] if k < len(spans) else None
            self.noises.append((step.index, *(span or (step.s, step.t))))
        return rows

    def begins(self, steps: int) -> dict[int, int]:
        """The evaluations at which steps begin, and the numbers of these steps."""
        found, evaluation = {}, 0
        for i in range(steps):
            count = self.evaluations.get(i, 1)  # a step that the solver does not take itself costs one
            if count:
                found[evaluation] = i
            evaluation += count
        return found


def _checked_levels(sigmas: Any, x: Tensor) -> tuple[Tensor, list[float]]:
    """The noise levels as a tensor for callbacks, and as floats to compute with."""
    if not isinstance(sigmas, Tensor | Iterable):
        raise TypeError(f"sigmas must be a tensor (N + 1,) or floats, got {type(sigmas).__name__}")
    tensor = sigmas if isinstance(sigmas, Tensor) else torch.as_tensor(list(sigmas), device=x.device)
    if tensor.ndim != 1 or len(tensor) < 1 or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(
            f"sigmas must be noise levels in one dimension, (N + 1,), got {tensor.dtype} {tuple(tensor.shape)}"
        )
    tensor = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
    levels = tensor.detach().double().tolist() if isinstance(sigmas, Tensor) else [float(level) for level in sigmas]
    for i, level in enumerate(levels):
        if not (level >= 0.0 and math.isfinite(level)):
            raise ValueError(f"sigmas must be finite and at least 0, got sigmas[{i}]={level}")
    for i, (a, b) in enumerate(pairwise(levels)):
        if a - b < CLOSEST * a or a == b:
            what = "repeats" if a == b else "is too close to" if b < a else "increases from"
            raise ValueError(
                f"sigmas must decrease strictly, from noise to data: sigmas[{i + 1}]={b} {what} sigmas[{i}]={a}"
            )
    return tensor, levels
