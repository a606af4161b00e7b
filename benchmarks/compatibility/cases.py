"""Pipelines as rows of a table, and what running one of them with a sampler gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor, nn

# One solver of each shape; a row more is a column more of the table.
SHAPES = {
    "multistep": "dpmpp-2m",
    "singlestep": "dpmpp-2s",
    "predictor-corrector": "unipc-3",
    "stochastic": "dpmpp-2m-sde",
    "Heun-like": "heun",
    "high-order": "res-3s",
    "adaptive": "dpmpp-23",
}


LOOKS_AHEAD = "the pipeline reads the timestep after the coming one"  # or counts them beforehand
EDITS = "the pipeline changes the latents between evaluations"


class Call(Protocol):
    """Run a pipeline on fixed inputs (embeddings rather than prompts) and return what it makes, as one tensor."""

    def __call__(self, pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
        """`steps` is num_inference_steps; `more` goes to the pipeline (a callback, eta, latents...)."""
        ...


@dataclass(frozen=True)
class Peer:
    """A scheduler of diffusers and the solver that it should be equal to.

    Attributes:
        solver: Name of the solver here.
        scheduler: Class of diffusers.
        config: What is set over the config of the pipeline's own scheduler, for both.
        options: Options of ``scoresde.integrations.diffusers.Scheduler`` besides MAXIMUM of samplers.py.
        arguments: Of the pipeline, for both.
        steps: What both pipelines are asked for.
        tolerance: Largest relative difference (of the root mean squares) in float64 that counts as equal.
        differs: Why the two are not equal, in a line; empty where they are.
    """

    solver: str
    scheduler: str
    config: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 5
    tolerance: float = 1e-9
    differs: str = ""


def all_timesteps(timesteps: Sequence[float], order: int, asked: int) -> int:
    """What most pipelines run: every timestep of their scheduler."""
    return len(timesteps)


STRENGTH = 0.6  # of image to image, and inpainting


def after_strength(timesteps: Sequence[float], order: int, asked: int) -> int:
    """What image to image runs: all but the steps before its strength."""
    return len(timesteps) - (asked - min(int(asked * STRENGTH), asked)) * order


@dataclass(frozen=True)
class Case:
    """A pipeline with tiny random weights.

    Attributes:
        name: As in the table, "Stable Diffusion img2img".
        family: "image", "latent", "stable diffusion", "transformer", "video", "audio".
        build: ``build(dtype)`` makes the pipeline, always with the same weights, and with the scheduler class that it
            ships with.
        call: Runs it.
        network: Attribute of the pipeline that is counted.
        calls: Calls of the network to an evaluation: 2 where guidance is not batched.
        scheduler: Attribute of the pipeline that is exchanged.
        runs: ``runs(timesteps, order, asked)``: how many of the scheduler's timesteps the pipeline runs when it is
            asked for so many steps; img2img leaves out `order` x the steps before its strength.
        peers: Schedulers of diffusers to compare with.
        note: What is particular, in a line.
        not_adaptive: Why solvers that choose their steps cannot run there; empty where they can.
    """

    name: str
    family: str
    build: Callable[[torch.dtype], Any]
    call: Call
    network: str = "unet"
    calls: int = 1
    scheduler: str = "scheduler"
    runs: Callable[[Sequence[float], int, int], int] = all_timesteps
    peers: tuple[Peer, ...] = ()
    note: str = ""
    not_adaptive: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        sample: The pipeline's output.
        state: What the last `step` of the scheduler returned: not clamped, not decoded, so this is what is compared.
        expected: Evaluations that the scheduler's timesteps promise.
        made: Evaluations counted: calls of the network, divided by those of one evaluation.
        timesteps: Length of the scheduler's timesteps.
    """

    sample: Tensor
    state: Tensor
    expected: int
    made: float
    timesteps: int

    @property
    def finite(self) -> bool:
        """Whether the whole output is."""
        return bool(torch.isfinite(self.sample).all())

    @property
    def ok(self) -> bool:
        """Finite, with as many calls as promised."""
        return self.finite and self.made == self.expected


FAMILIES = ("image", "latent", "stable_diffusion", "transformer", "video", "audio")


def all_cases() -> tuple[Case, ...]:
    """Every pipeline; a module of pipelines more is an entry of FAMILIES more."""
    modules = [import_module(f".{family}", __package__) for family in FAMILIES]
    return tuple(case for module in modules for case in module.CASES)


@contextmanager
def counted(network: nn.Module) -> Iterator[list[int]]:
    """Count forward calls of the network: the list's only number."""
    calls = [0]

    def more(*_: Any) -> None:
        calls[0] += 1

    handle = network.register_forward_pre_hook(more)
    try:
        yield calls
    finally:
        handle.remove()


@contextmanager
def recorded(scheduler: Any) -> Iterator[list[Tensor]]:
    """Keep what each `step` of a scheduler returned."""
    states: list[Tensor] = []
    step = scheduler.step

    @wraps(step)  # pipelines look at its signature
    def keep(*args: Any, **named: Any) -> Any:
        result = step(*args, **named)
        states.append(result[0])  # of a tuple or of diffusers' outputs
        return result

    scheduler.step = keep
    try:
        yield states
    finally:
        del scheduler.step


def difference(one: Tensor, other: Tensor) -> float:
    """Root mean square of the difference, over that of the second."""
    return float((one - other).double().square().mean().sqrt() / other.double().square().mean().sqrt())


def run_case(
    case: Case,
    scheduler: Callable[[Any], Any] | None = None,
    steps: int = 5,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **more: Any,
) -> Outcome:
    """Run a pipeline, with this scheduler or with its own.

    Args:
        case: The pipeline.
        scheduler: ``scheduler(own)`` makes the scheduler from the pipeline's own; None leaves the latter.
        steps: What the pipeline is asked for.
        dtype: Of weights and latents.
        seed: Of the generator that the pipeline is given.
        more: Goes to the pipeline.
    """
    pipe = case.build(dtype)
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        setattr(pipe, case.scheduler, scheduler(getattr(pipe, case.scheduler)))
    used = getattr(pipe, case.scheduler)
    network = getattr(pipe, case.network)
    with counted(network) as calls, recorded(used) as states, torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)  # some pipelines do not pass their generator to `step`
        sample = case.call(pipe, steps, torch.Generator().manual_seed(seed), **more)
    if isinstance(used.timesteps, Tensor):
        expected = case.runs(used.timesteps.tolist(), getattr(used, "order", 1), steps)  # UnCLIPScheduler has no order
    else:  # made one after the other
        expected = len(states)
    return Outcome(sample, states[-1], expected, calls[0] / case.calls, len(used.timesteps))
