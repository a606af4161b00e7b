"""The scheduler: a plan, and a run of it, seen from a pipeline of diffusers.

It is described where it is to be imported from, in :mod:`scoresde.integrations.diffusers`; its methods but for ``step``
in :mod:`scoresde.integrations.diffusers.base`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scoresde.fused import FusedRun
from scoresde.integrations.diffusers.base import PlannedScheduler
from scoresde.integrations.diffusers.stepping import StepOutput, version
from scoresde.mix import linear
from scoresde.plan import Plan
from scoresde.predictions import convert
from scoresde.run import Stepping, master_dtype
from scoresde.sde import Point


class Scheduler(PlannedScheduler):
    r"""Any solver of the catalogue on any grid, in any pipeline of diffusers.

    Made from the scheduler that a pipeline has, of which it carries over what was trained (noise schedule, kind of
    prediction, flow shift, thresholding) and, unless told otherwise, the spacing of the timesteps:

    .. code-block:: python

        pipe.scheduler = Scheduler.from_config(pipe.scheduler.config, solver="dpmpp-3m", grid="karras")

    Between two calls of :meth:`step` it holds a :class:`scoresde.Run`; half-precision latents are accumulated in
    float32. Latents that a pipeline or a callback has changed are taken over in full, whatever the solver.

    The state is :math:`x = \alpha x_0 + \sigma\epsilon` with :math:`\alpha^2 + \sigma^2 = 1` wherever the network was
    trained so, also where the source scheduler (Euler, Heun, LMS) keeps :math:`x/\alpha` and scales the network's
    input: ``scale_model_input`` is the identity then, and ``init_noise_sigma`` (about) 1.

    Args:
        solver: a name of :func:`scoresde.solvers`, or one that other libraries use; it may carry a grid ("DPM++ 2M
            Karras"). Adaptive solvers have lazy ``timesteps``.
        solver_options: options of the solver, such as {"eta": 0.5} of "ddim".
        grid: a name of :func:`scoresde.grids`; None is the source's own spacing, with its Karras sigmas and the like.
        grid_options: options of the grid, such as {"rho": 5.0} of "karras".
        count: what ``num_inference_steps`` counts. "nfe": calls of the network; the solver takes the most steps that
            they are enough for. "steps": steps of the solver, however many calls each takes, as in diffusers' Heun.
        rounding: networks are told the exact, real-valued timestep ("none"). "label" rounds only what they are told.
            "grid" moves the grid to the integer timesteps of the training, as diffusers does.
        end: where to end: "source" is where the source scheduler ends, "zero" at the data (noise 0), "eps" at the least
            noise of the training.
        seed: None draws noises from the generator that the pipeline passes, else from torch's own. A number makes them
            a function of it and of the place in the batch, whatever the batch.
        textbook: steps that are too long for a method are taken with a lower order (see :class:`scoresde.Solver`); True
            takes every step as the textbook does.
        check: predictions that are not finite: "off", or an error at the "end" or at "each" step (reads the device).
        compile: True compiles the arithmetic of a step by ``torch.compile``, once for all steps
            (:class:`scoresde.fused.FusedRun`); or the name of a backend of it. For fixed-step solvers.
        source: the configuration of the source scheduler with its ``_class_name``; its keys become keys of ``config``.

    Raises:
        ValueError: unknown names (the nearest are listed) or options, or a source that cannot be carried over.
    """

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
        variance_noise: Tensor | None = None,
        use_clipped_model_output: bool | None = None,
        prev_timestep: Any = None,
    ) -> StepOutput:
        """Take the network's output at (sample, timestep), and give the state to evaluate at next.

        Args:
            model_output: of the shape of the sample; with a learned variance twice the channels, of which the second
                half is left aside.
            timestep: the entry of ``timesteps`` that the network was told. Read only where a run begins, if
                :meth:`set_begin_index` has not said where.
            sample: what this method returned last, or changed by the pipeline.
            eta: of solvers that have it: the share of fresh noise, in place of the solver's own. 0 leaves it.
            generator: of the noises; or one for each sample.
            return_dict: for pipelines that say it: what is returned can be taken as a tuple of two and by attributes.
            variance_noise: standard normal noise for this step, in place of drawing it.
            use_clipped_model_output: for pipelines that say it: noise predictions always follow the limited x0.
            prev_timestep: for pipelines that say it: the plan knows what comes next.

        Raises:
            ValueError: no timesteps, a run that is over, or wrong shapes.
        """
        run = self._run
        if run is None:
            run = self._start(timestep, sample, eta)
        elif run.done:
            raise ValueError("the run is over: call set_timesteps or set_begin_index before the next one")
        elif sample is not self._given or version(sample) != self._given_version:
            self._edited(run, sample)
        draws, source = self._draws, self._source
        draws.generator, draws.given = generator, variance_noise
        if source.learned_variance and model_output.ndim > 1 and model_output.shape[1] == 2 * sample.shape[1]:
            model_output = model_output[:, : sample.shape[1]]
        point = run.point  # type: ignore[attr-defined]
        if source.limit is None:
            run.tell(model_output, source.kind if source.precondition is None else source.precondition)
        else:
            run.tell(self._denoised(run.x, model_output, point), "x0")
        x = run.sample if run.done else run.x
        if not run.done and getattr(run, "anchored", False) and x.dtype == master_dtype(x.dtype):
            x = x.clone()  # what is changed in place has to differ from the state for the change to reach the anchor
        self._given, self._given_version = x, version(x)
        return StepOutput(x, lambda: self._denoised(sample, model_output, point))

    def _start(self, timestep: Any, sample: Tensor, eta: float) -> Stepping:
        planned = self._have()
        index = self._index_of(timestep) if self._begin is None else self._begin
        plan = self._choice.begun(self._source, planned, index, eta)
        self._draws.like = sample
        noise = self._draws if self._seed is None else None  # or scoresde's own, from the seed
        seed, check = self._seed or 0, self._check
        if self._compile and isinstance(plan, Plan):
            run = FusedRun(plan, sample, seed=seed, noise=noise, check=check, compile=self._compile)
        else:
            run = plan.start(sample, seed, noise=noise, check=check)
        self._run, self._first = run, index
        return run

    def _edited(self, run: Stepping, sample: Tensor) -> None:
        """The pipeline has changed the state between two evaluations."""
        if not hasattr(run, "edit"):
            raise ValueError(
                f"solver {self._choice.solver.name!r} chooses its steps by what it has seen: the latents cannot be "
                "changed between its steps (inpainting, callbacks); take a fixed-step solver for that"
            )
        run.edit(sample)  # type: ignore[attr-defined]

    def _denoised(self, x: Tensor, output: Tensor, point: Point) -> Tensor:
        """E[x0 | x] from the network's output, as the source scheduler limits it."""
        source, wide = self._source, master_dtype(x.dtype)
        kind = source.kind if source.precondition is None else source.precondition
        on_x, on_output = convert(kind, "x0", point.alpha, point.sigma)
        x0 = linear([(on_x, x.to(wide)), (on_output, output.to(wide))])
        return (x0 if source.limit is None else source.limit(x0)).to(x.dtype)
