"""What a scheduler is between two runs: what it was made from, its plan, and what pipelines read of both."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from scoresde.adaptive import LazyPlan, LazySolver
from scoresde.errors import choose
from scoresde.integrations.diffusers.planning import Choice, Planned, Request, short
from scoresde.integrations.diffusers.source import Source, class_of, read
from scoresde.integrations.diffusers.stepping import Draws
from scoresde.integrations.diffusers.timesteps import LazyTimesteps
from scoresde.plan import Plan
from scoresde.run import CHECKS, Stepping, master_dtype
from scoresde.sde import Point

SOURCE = {"_class_name": "DDPMScheduler"}


class PlannedScheduler(SchedulerMixin, ConfigMixin):
    """All of :class:`scoresde.integrations.diffusers.Scheduler`, whose arguments are there, but for its steps."""

    config_name = "scheduler_config.json"
    has_compatibles = False
    ignore_for_config = ("source",)

    @register_to_config
    def __init__(
        self,
        solver: str = "dpmpp-2m",
        solver_options: Mapping[str, Any] | None = None,
        grid: str | None = None,
        grid_options: Mapping[str, float] | None = None,
        count: str = "nfe",
        rounding: str = "none",
        end: str = "source",
        seed: int | None = None,
        textbook: bool = False,
        check: str = "off",
        compile: bool | str = False,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        source = dict(SOURCE if source is None else source)
        self._choice = Choice.checked(solver, solver_options, grid, grid_options, count, rounding, end, textbook)
        self._check, self._seed, self._compile = choose(check, CHECKS, "check"), seed, compile
        if compile and isinstance(self._choice.solver, LazySolver):
            raise ValueError(f"compile={compile!r}: solver {solver!r} makes its steps on the way; leave compile out")
        self._source: Source = read(source)
        self.register_to_config(
            source_class=self._source.scheduler, **{k: v for k, v in source.items() if not k.startswith("_")}
        )
        self.num_inference_steps: int | None = None
        self._planned: Planned | None = None
        self._request: Any = None
        self._labels: list[float] = []
        self._timesteps: Tensor | LazyTimesteps | None = None
        self._forget()

    # -- made from another scheduler, saved and loaded
    @classmethod
    def from_config(  # type: ignore[override]
        cls, config: Mapping[str, Any] | SchedulerMixin, return_unused_kwargs: bool = False, **options: Any
    ) -> Any:
        """From the configuration of the scheduler that a pipeline has, or of one like this.

        Args:
            config: ``pipe.scheduler.config``, or ``pipe.scheduler``.
            return_unused_kwargs: return (scheduler, options that are not known) instead of raising.
            options: arguments of this class; and keys of the configuration to change, such as ``shift=5.0``.

        Raises:
            TypeError: not a configuration, or an option that neither has.
            ValueError: a scheduler that cannot be carried over; the message says what is missing.
        """
        if isinstance(config, ConfigMixin):
            config = {"_class_name": type(config).__name__, **config.config}
        if not isinstance(config, Mapping):
            raise TypeError(f"config must be a scheduler's config (pipe.scheduler.config), got {type(config).__name__}")
        defaults = config.get("_use_default_values", ())
        # A scheduler of diffusers that was made from one of ours keeps our keys, unread.
        if "source_class" in config and config.get("_class_name", cls.__name__) == cls.__name__:
            given = {k: v for k, v in config.items() if k in OPTIONS and k not in defaults}
            source = _source_config(config)
        else:
            ours = {*OPTIONS, "source_class"}
            given, source = {}, {k: v for k, v in config.items() if k not in ours and not k.startswith("_")}
            source["_class_name"] = config.get("_class_name") or class_of(source)
        unknown = {k: v for k, v in options.items() if k not in OPTIONS and k not in source}
        if unknown and not return_unused_kwargs:
            raise TypeError(
                f"from_config got unknown options {sorted(unknown)}; those of Scheduler are {sorted(OPTIONS)}, and the "
                f"source's keys can be changed too: {sorted(k for k in source if not k.startswith('_'))}"
            )
        given.update({k: v for k, v in options.items() if k in OPTIONS})
        source.update({k: v for k, v in options.items() if k in source})
        made = cls(**given, source=source)
        return (made, unknown) if return_unused_kwargs else made

    # -- planning
    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
        original_inference_steps: int | None = None,
    ) -> None:
        """Plan the coming runs; pipelines call this.

        Args:
            num_inference_steps: calls of the network, or steps of the solver (see ``count``).
            device: where ``timesteps`` are wanted.
            timesteps: in place of a number, the timesteps of the solver's steps, decreasing.
            sigmas: likewise, their noise levels, as the source scheduler takes them (of a flow, before its shift). The
                evenly spaced ones that flow pipelines pass by themselves stand for a number of steps.
            mu: of flows with dynamic shifting, for the size of the image.
            original_inference_steps: of consistency models, in place of the configuration's.

        Raises:
            TypeError, ValueError: arguments that do not go together, with the solver or with the grid; the message says
                which.
        """
        request = (Request.checked(num_inference_steps, timesteps, sigmas, mu), original_inference_steps)
        if request != self._request:
            source = self._source
            if original_inference_steps is not None:
                source = read({**_source_config(self.config), "original_inference_steps": original_inference_steps})
            self._planned, self._request = self._choice.plan(source, request[0]), request
            self._labels = [self._told(t) for t in self._planned.times]
        assert self._planned is not None
        self.num_inference_steps = request[0].number or len(self._planned.nodes) - 1
        if isinstance(self._planned.plan, LazyPlan):
            self._timesteps = LazyTimesteps(self._labels, self._next_label, device=device)
        else:
            whole = self._choice.rounding != "none" and all(label == int(label) for label in self._labels)
            self._timesteps = torch.tensor(self._labels, dtype=torch.int64 if whole else torch.float32).to(device)
        self._forget()

    def _told(self, t: float) -> float:
        """What the network is told at time t."""
        return self._source.timestep(t, rounding=self._choice.rounding)

    # -- what pipelines read
    @property
    def plan(self) -> Plan | LazyPlan:
        """The plan of the coming run, from its beginning."""
        return self._have().plan

    def _have(self) -> Planned:
        if self._planned is None:
            raise ValueError("there are no timesteps yet: call set_timesteps(num_inference_steps) first")
        return self._planned

    @property
    def timesteps(self) -> Tensor | LazyTimesteps:
        """What the network is told at each of its evaluations; before :meth:`set_timesteps`, those of the training."""
        if self._timesteps is None:
            count = int(self.config.get("num_train_timesteps", 1000))
            return torch.tensor([float(i) for i in reversed(range(count))])
        return self._timesteps

    @timesteps.setter
    def timesteps(self, timesteps: Tensor | LazyTimesteps) -> None:
        """Some pipelines put them back in another dtype or on another device."""
        if len(timesteps) != len(self._labels):
            raise ValueError(
                f"timesteps must be the {len(self._labels)} of the plan, got {len(timesteps)}: others are for "
                "set_timesteps(timesteps=...)"
            )
        self._timesteps = timesteps

    @property
    def sigmas(self) -> Tensor:
        """The noise level at each evaluation and at the end, as the source scheduler measures it (float32, host).

        Of a solver that chooses its evaluations: at those made so far, at the next one and at the end.
        """
        planned = self._have()
        times = planned.times if isinstance(planned.plan, Plan) else self._visited or planned.times[:1]
        return torch.tensor([self._source.sigma(t) for t in (*times, planned.nodes[-1])])

    @property
    def alphas_cumprod(self) -> Tensor:
        """alpha^2 at each timestep of the training (float32, host).

        Raises:
            AttributeError: the network was not trained on a table.
        """
        table = getattr(self._source.sde, "alphas_cumprod", None)
        if table is None:
            raise AttributeError(f"{self._source.scheduler} has no table of alphas_cumprod")
        return torch.tensor(table, dtype=torch.float32)

    @property
    def betas(self) -> Tensor:
        """1 - the ratio of neighbours in :attr:`alphas_cumprod`."""
        table = torch.tensor([1.0, *self._source.sde.alphas_cumprod], dtype=torch.float64)  # type: ignore[attr-defined]
        return (1 - table[1:] / table[:-1]).float()

    @property
    def init_noise_sigma(self) -> float:
        """What the initial standard normal noise is to be multiplied by."""
        sde, planned = self._source.sde, self._planned
        return self._source.noise_scale(sde.point(sde.T) if planned is None else planned.plan.begin)

    @property
    def order(self) -> int:
        """Entries of ``timesteps`` for each of ``num_inference_steps``: more than 1 only where they count steps."""
        return self._choice.order

    @property
    def begin_index(self) -> int | None:
        """The evaluation that the next run begins at, if it was set."""
        return self._begin

    @property
    def step_index(self) -> int | None:
        """The evaluation that comes next, or None before the first."""
        return None if self._run is None else self._first + self._run.nfe

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the next run at this place of ``timesteps`` (image-to-image, inpainting, refiners).

        Raises:
            ValueError: there is no such place. A pipeline would return noise, having run nothing.
        """
        begin = operator.index(begin_index)
        count = begin + 1 if self._timesteps is None else len(self._timesteps)
        if not 0 <= begin < count:
            raise ValueError(
                f"begin_index={begin} leaves nothing to run of {count} timesteps (num_inference_steps="
                f"{self.num_inference_steps}, solver {self._choice.solver.name!r}); ask for more of them, or let them "
                "be steps of equal cost: count='steps', textbook=True"
            )
        self._forget()
        self._begin = begin

    def __len__(self) -> int:
        return int(self.config.get("num_train_timesteps", 1000))

    # -- noise
    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noise samples to the level of timesteps: alpha x0 + sigma noise.

        Args:
            original_samples: (B, ...).
            noise: standard normal, of the same shape.
            timesteps: entries of ``timesteps``, or any others: one, or one a sample.
        """
        labels = [float(v) for v in torch.as_tensor(timesteps).reshape(-1).tolist()]
        sde, wide = self._source.sde, master_dtype(original_samples.dtype)
        points = [sde.point(self._time(label)) for label in labels]
        column = (-1,) + (1,) * (original_samples.ndim - 1)
        alpha, sigma = (
            torch.tensor(v, dtype=wide).to(original_samples.device).reshape(column)
            for v in ([p.alpha for p in points], [p.sigma for p in points])
        )
        noised = alpha * original_samples.to(wide) + sigma * noise.to(original_samples.device, wide)
        return noised.to(original_samples.dtype)

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """:meth:`add_noise` under the name and order of arguments that flow pipelines use."""
        return self.add_noise(sample, noise, timestep)

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """What the network is given: the sample, but for networks of EDM, c_in times the sample."""
        if self._source.precondition is None:
            return sample
        at = self._level(timestep)
        c_in, _, _ = self._source.precondition.coefficients(at.alpha, at.sigma)
        return sample if c_in == 1.0 else sample * c_in

    def _level(self, timestep: Any) -> Point:
        if self._run is not None and not self._run.done:
            return self._run.point  # type: ignore[attr-defined]
        index = self._index_of(timestep) if self._begin is None else self._begin
        plan = self._have().plan
        if isinstance(plan, Plan):  # whose churn may go above the process's T
            return [row.at for row in plan.rows if row.at is not None][index]
        return self._source.sde.point(self._have().times[index])

    def _time(self, label: float) -> float:
        """The exact time of an announced timestep, or that of any other."""
        planned = self._planned
        for announced, t in zip(self._labels, planned.times if planned else (), strict=True):
            if _same(announced, label):
                return t
        return self._source.time(label)

    # -- where a run stands
    def _index_of(self, timestep: Any) -> int:
        """The place of a timestep among those announced. One that we handed out is known by its place in memory."""
        ours = self._timesteps
        if isinstance(timestep, Tensor):
            if isinstance(ours, Tensor) and timestep.ndim == 0:
                storage = timestep.untyped_storage()
                if storage._cdata == ours.untyped_storage()._cdata:
                    return int(timestep.storage_offset())
            timestep = timestep.reshape(-1)[0].item()
        label = float(timestep)
        for i, announced in enumerate(self._labels):
            if _same(announced, label):
                return i
        raise ValueError(f"timestep={label} is none of those announced: {short(self._labels)}")

    def _next_label(self, begin: int) -> tuple[int, float | None]:
        run = self._run
        if run is None:
            self._visited = [self._have().times[begin]]
            return 0, self._labels[begin]
        if run.done:
            return run.nfe, None
        self._visited = [*self._visited[: run.nfe], run.t]
        return run.nfe, self._told(run.t)

    def _forget(self) -> None:
        """No run, and nothing of an earlier one."""
        self._run: Stepping | None = None
        self._begin: int | None = None
        self._first = 0
        self._visited: list[float] = []
        self._given: Tensor | None = None
        self._given_version = 0
        self._draws = Draws()


def _same(announced: float, label: float) -> bool:
    """Whether a timestep is an announced one, which a float32 tensor has rounded."""
    return math.isclose(announced, label, rel_tol=2e-7, abs_tol=1e-9)


def _source_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The source scheduler's configuration in one of ours."""
    own = {*OPTIONS, "source_class"}
    kept = {k: v for k, v in config.items() if k not in own and not k.startswith("_")}
    return {**kept, "_class_name": config["source_class"]}


OPTIONS = frozenset(inspect.signature(PlannedScheduler.__init__).parameters) - {"self", "source"}
