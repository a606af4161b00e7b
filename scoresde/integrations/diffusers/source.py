"""What the config of a diffusers scheduler means, whatever its class: the process that the network was trained on, what
it predicts, what it is told about the noise, and the time grid.

diffusers' own ``from_config`` copies the keys that two classes happen to share. This reads the config as its own class
does, so that nothing is lost: betas or the flow shift, spacing, zero terminal SNR, thresholding, overrides.

>>> source = read({"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"})
>>> [source.label(t) for t in source.times(4)]
[999.0, 749.0, 499.0, 249.0, 0.0]
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from scoresde.errors import check_positive_int, choose
from scoresde.integrations.diffusers.classes import CLASSES, UNSUPPORTED
from scoresde.integrations.diffusers.families import NOISE_SCALES, Facts
from scoresde.integrations.diffusers.outputs import LimitX0
from scoresde.integrations.diffusers.spacing import Schedule
from scoresde.plan import check_grid
from scoresde.predictions import Precondition
from scoresde.sde import SDE, Point, RectifiedFlow

ROUNDINGS = {"none": "none", "label": "label", "grid": "grid"}
LEARNED = ("learned", "learned_range")


@dataclass(frozen=True)
class Source:
    """A scheduler's config, read.

    Times are those of :attr:`sde`. Of schedulers with a trained table it is variance preserving, x = alpha x0 + sigma
    eps, also where diffusers' class keeps x/alpha (Euler's family). ``rounding`` is everywhere one of

    * "none": labels are real numbers, and so are the indices that the spacing makes;
    * "label": the same times; only what the network is told is rounded (:meth:`timestep`), where labels are whole;
    * "grid": what diffusers' own class does. Indices are rounded, so most times are those of entries of the table.
      Levels that are no indices (Karras', exponential, beta, flow) are exact, and the label alone is rounded, or cut
      down, or neither, as in the class.

    Attributes:
        scheduler: the name of its class.
        sde: the process: a DiscreteVP of the trained table, RectifiedFlow, EDM, VE, or another.
        kind: what the network predicts: "epsilon", "x0", "v", "flow" or "score"; with a precondition, what comes out
            of that: "x0".
        precondition: of networks that the scheduler preconditions; else None.
        learned_variance: the second half of the output's channels is a variance.
        limit: what is done to each prediction of x0; or None.
        schedule: the time grid and the names of noise levels.
        begins: a name of :data:`scoresde.integrations.diffusers.families.NOISE_SCALES`.
        options: the config, with defaults filled in.
    """

    scheduler: str
    sde: SDE
    kind: str
    precondition: Precondition | None
    learned_variance: bool
    limit: LimitX0 | None
    schedule: Schedule
    begins: str
    options: Mapping[str, Any]

    # -- noise
    def noise_scale(self, begin: Point) -> float:
        """Standard deviation, in the units of the process, of the noise from which a plan that begins there starts."""
        return NOISE_SCALES[self.begins](begin, self.options)

    def shift(self, mu: float | None = None) -> float:
        """The flow shift in force; 1 if the source is no flow.

        Raises:
            ValueError: the source shifts dynamically and mu is None.
        """
        return self.schedule.shift(mu)

    def before_shift(self, t: float, mu: float | None = None) -> float:
        """The time of a flow that its shift moves to t.

        A pipeline that passes both timesteps and sigmas (CogView4) tells its network labels of these times.
        """
        return RectifiedFlow(1 / self.shift(mu)).sigma(t) if isinstance(self.sde, RectifiedFlow) else t

    # -- names of noise levels
    def label(self, t: float) -> float:
        """What the network is told at a time: the index in the trained table, 1000 sigma, c_noise, ..., as a real."""
        return self.schedule.labels.label(t)

    def timestep(self, t: float, *, rounding: str = "none") -> float:
        """The label at a time as rounding has it; see :class:`Source`."""
        label = self.label(t)
        if choose(rounding, ROUNDINGS, "rounding") == "grid":
            return float(self.schedule.told(label))
        return float(round(label)) if rounding == "label" and self.schedule.whole else label

    def time(self, label: float) -> float:
        """The time at a label, as a real."""
        return self.schedule.labels.time(float(label))

    def sigma(self, t: float) -> float:
        """What the source's ``sigmas`` hold at a time: sigma/alpha; sigma of a flow, or 1 - sigma if it is inverted."""
        return self.schedule.number.at(t)

    def time_of_sigma(self, sigma: float) -> float:
        """The time at a number of :meth:`sigma`."""
        return self.schedule.number.time(sigma)

    # -- grids
    def times(self, steps: int, *, rounding: str = "none", mu: float | None = None) -> tuple[float, ...]:
        """The source's own spacing: steps + 1 strictly decreasing times, of which the last is where it ends.

        Where diffusers' class has a last step of no length (its end is the level where the last step begins), the
        step goes on to the data. Where one step of it would begin at the data, it begins at the noisiest time.

        Raises:
            ValueError: num_inference_steps (steps) is more than the table has; or mu is missing.
        """
        check_positive_int(steps, "num_inference_steps")
        exact = choose(rounding, ROUNDINGS, "rounding") != "grid"
        return self._ended(self.schedule.times(steps, exact, mu), f"num_inference_steps={steps}")

    def times_of_labels(self, labels: Iterable[float], *, rounding: str = "none") -> tuple[float, ...]:
        """The times of ``set_timesteps(timesteps=...)``: a step from each label, and the end.

        Labels of a flow are 1000 sigma as the network is told, after any shift.
        """
        labels = [float(label) for label in labels]
        exact = choose(rounding, ROUNDINGS, "rounding") != "grid"
        return self._ended(self.schedule.of_labels(labels, exact), "timesteps")

    def times_of_sigmas(
        self, sigmas: Iterable[float], *, mu: float | None = None, rounding: str = "none"
    ) -> tuple[float, ...]:
        """The times of ``set_timesteps(sigmas=...)``; the end is added if it is missing.

        Those of a flow are shifted, as diffusers does.
        """
        sigmas = [float(sigma) for sigma in sigmas]
        exact = choose(rounding, ROUNDINGS, "rounding") != "grid"
        end = self.schedule.end
        if sigmas and (sigmas[-1] == 0.0 or 0.0 < sigmas[-1] <= end * (1 + 1e-6) < 1.0):
            sigmas.pop()
        return self._ended(self.schedule.of_numbers(sigmas, exact, mu) if sigmas else [], "sigmas")

    def _ended(self, starts: list[float], argument: str) -> tuple[float, ...]:
        """The times with the end; errors name the argument."""
        if not starts:
            raise ValueError(f"{argument} must have at least one noise level above the end")
        end = self.time_of_sigma(self.schedule.end)
        times = (*starts, end if end < starts[-1] * (1 - 1e-9) else 0.0)
        try:
            return tuple(check_grid(times, self.sde))
        except ValueError as error:
            labels = ", ".join(f"{self.label(t):g}" for t in starts[:5])
            what = "take fewer steps" if argument.startswith("num") else "they must decrease strictly"
            raise ValueError(
                f"{argument}: {self.scheduler} has not so many noise levels, {what}: {error} (labels {labels}, ...)"
            ) from error


def read(config: Mapping[str, Any]) -> Source:
    """What a scheduler's config means.

    Args:
        config: ``scheduler.config``, or a dict with ``_class_name`` and any of its keys; missing ones have the defaults
            of the class.

    Raises:
        TypeError: not a mapping.
        ValueError: a class that cannot be carried over (the message says what is missing and what to pass instead), an
            unknown one, or an option that is not one of its class.
    """
    if not isinstance(config, Mapping):
        hint = "pass its .config" if hasattr(config, "config") else "such as pipe.scheduler.config"
        raise TypeError(f"config must be the config of a diffusers scheduler, {hint}; got {type(config).__name__}")
    name = config.get("_class_name")
    if name in UNSUPPORTED:
        raise ValueError(f"config: {name} cannot be carried over: {UNSUPPORTED[name]}")
    if name not in CLASSES:
        near = get_close_matches(str(name), CLASSES, n=3, cutoff=0.5) or list(CLASSES)[:3]
        raise ValueError(
            f"config must have the _class_name of a diffusers scheduler, got {name!r}; nearest: {', '.join(near)}"
        )
    facts = CLASSES[name]
    options = _options(facts, name, config)
    try:
        built = facts.build(facts, options)
        limit = _limit(facts, options)
    except ValueError as error:
        raise ValueError(f"config of {name}: {error}") from error
    learned = options.get("variance_type") in LEARNED
    return Source(
        name, built.sde, built.kind, built.precondition, learned, limit, built.schedule, facts.begins, options
    )


def _options(facts: Facts, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that the class knows, with its defaults; other keys of a config say nothing about this source."""
    parameters = inspect.signature(_scheduler_class(facts.alike or name)).parameters
    defaults = {**dict.fromkeys(facts.also), **{k: p.default for k, p in parameters.items()}, **facts.defaults}
    return {key: config.get(key, default) for key, default in defaults.items()}


def class_of(config: Mapping[str, Any]) -> str:
    """The class whose options are the keys of a config that does not name it, as of a scheduler made by its class.

    Raises:
        ValueError: no class has just these options, or several that read them differently.
    """
    keys = {key for key in config if not key.startswith("_")}
    fitting = [name for name in CLASSES if set(_parameters(name)) == keys]
    if not fitting or any(CLASSES[name] != CLASSES[fitting[0]] for name in fitting):
        which = f"those of {' and '.join(fitting)} alike" if fitting else "those of no known scheduler"
        raise ValueError(
            f"config has no _class_name, and its keys are {which}: pass the scheduler itself, as in "
            "Scheduler.from_config(pipe.scheduler, ...)"
        )
    return fitting[0]


def _parameters(name: str) -> list[str]:
    try:
        return [key for key in inspect.signature(_scheduler_class(name)).parameters if key != "kwargs"]
    except ValueError:  # an older diffusers has no such class
        return []


def _scheduler_class(name: str) -> Any:
    import diffusers

    deprecated = getattr(diffusers.schedulers, "deprecated", None)
    found = getattr(diffusers, name, None) or getattr(deprecated, name, None)
    if found is None:
        raise ValueError(f"config: diffusers {diffusers.__version__} has no {name}; install a newer one")
    return found


def _limit(facts: Facts, o: Mapping[str, Any]) -> LimitX0 | None:
    """diffusers thresholds, or else clips."""
    if "thresholding" in facts.limits and o["thresholding"]:
        return LimitX0(1.0, float(o["dynamic_thresholding_ratio"]), float(o["sample_max_value"]))
    if "clip_sample" in facts.limits and o["clip_sample"]:
        return LimitX0(float(o["clip_sample_range"]))
    if "clip_denoised" in facts.limits and o["clip_denoised"]:
        return LimitX0()
    return None
