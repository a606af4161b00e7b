"""A plan and a denoiser as one module: noise in, sample out."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.denoiser import BaseDenoiser
from scoresde.noise import normal
from scoresde.plan import Plan
from scoresde.predictions import PREDICTIONS
from scoresde.run import master_dtype
from scoresde.sources import Noise, Noises, NoiseSource


class Sampler(nn.Module):
    """A fixed plan with its network: ``sampler(x_T) -> sample``.

    The networks that the denoiser calls are submodules (``sampler.nets``), so ``state_dict``, ``to``, ``half`` and
    ``parameters`` are theirs; they are the same objects, not copies. Nothing waits for the device, so a call can be
    captured in a CUDA graph, and nothing breaks the graph of ``torch.compile(sampler, fullgraph=True)``. Gradients
    flow through; sample under ``torch.no_grad()`` if you need none.

    Args:
        plan: of :func:`scoresde.plan_for` or :func:`scoresde.make_plan`.
        denoiser: of :class:`scoresde.Denoiser`, or anything that is one, such as a guided one.

    Raises:
        TypeError: not a plan of fixed steps, or not a denoiser.
    """

    def __init__(self, plan: Plan, denoiser: BaseDenoiser) -> None:
        super().__init__()
        if not isinstance(plan, Plan):
            got = getattr(plan, "solver", plan)
            raise TypeError(
                f"plan must be a scoresde.Plan, as of scoresde.plan_for('dpmpp-2m', sde, nfe=10); got {got!r}. Solvers "
                "that choose their evaluations as they go have none, and no fixed program"
            )
        if not isinstance(denoiser, BaseDenoiser):
            raise TypeError(
                f"denoiser must be a scoresde.Denoiser (wrap your network in one), got {type(denoiser).__name__}"
            )
        self.plan = plan
        self.nets = nn.ModuleList(networks(denoiser))
        vars(self)["denoiser"] = denoiser  # one that is itself a module is in nets already
        self.denoiser: BaseDenoiser
        # Worked out now: torch.compile cannot look into the making of a script, nor the locks of caches in Python 3.11.
        _ = plan.noises
        for line in product(range(len(plan.rows)), PREDICTIONS):
            with suppress(ValueError):  # a kind that cannot be told at this noise level
                _ = plan.script[line]

    def forward(self, x_T: Tensor, noises: Tensor | None = None, cond: Mapping[str, Any] | None = None) -> Tensor:
        """The sample.

        Args:
            x_T: the noisy start (B, ...), at the plan's first noise level. Half precision is accumulated in float32.
            noises: for a stochastic plan, its standard normal noises (plan.noises, B, ...); see :meth:`draw`.
            cond: keyword arguments of the network, as of :func:`scoresde.sample`.

        Returns:
            (B, ...) in the dtype of x_T.

        Raises:
            ValueError: noises that the plan does not need or that are missing or of another shape, or a wrong x_T.
        """
        run = self.plan.start(x_T, noise=self._source(x_T, noises), check="off")
        while not run.done:
            run.tell(*self.denoiser.evaluate(run.x, run.t, **(cond or {})))
        return run.sample

    def _source(self, x_T: Tensor, noises: Tensor | None) -> NoiseSource | None:
        count = self.plan.noises
        if noises is None:
            if count:
                raise ValueError(
                    f"noises must be given: {self.plan.solver} takes {count} like x_T; sampler.draw makes them"
                )
            return None
        if not count:
            raise ValueError(f"noises must be left out: the plan of {self.plan.solver} is deterministic")
        wanted = (count, *x_T.shape)
        if tuple(noises.shape) != wanted:
            raise ValueError(
                f"noises must have the shape {wanted}: the plan's noises, then x_T's; got {tuple(noises.shape)}"
            )
        return lambda k: noises[k]

    def draw(
        self,
        shape: Sequence[int],
        seed: int = 0,
        index: int | Sequence[int] = 0,
        *,
        noise: Noise = "independent",
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
    ) -> tuple[Tensor, ...]:
        """The inputs with which ``sampler(*sampler.draw(shape, seed), cond=...)`` is what ``scoresde.sample`` gives.

        Args:
            shape: (batch, ...) of the samples.
            seed, index, noise: as of :func:`scoresde.sample`.
            dtype, device: of the state; float32 on the CPU by default. Noises are at least float32.

        Returns:
            (x_T,) for a deterministic plan, (x_T, noises) for a stochastic one.
        """
        z = normal(shape, seed, index, dtype=dtype or torch.float32, device=device)
        x_T = z * self.denoiser.sde.prior_std(self.plan.begin.t)
        if not self.plan.noises:
            return (x_T,)
        master = x_T.to(master_dtype(x_T.dtype))
        source = Noises(noise, seed, index, master)
        drawn = [source.draw(k, span, master) for k, span in enumerate(self.plan.spans)]
        return x_T, torch.stack(drawn)

    def extra_repr(self) -> str:
        """The plan and the denoiser."""
        return f"{self.plan!r}, {self.denoiser!r}"


def networks(denoiser: BaseDenoiser) -> list[nn.Module]:
    """The modules that a denoiser calls: attributes of it and of those inside it, and what their functions close over.

    Of a module only itself, not those inside it. A module that is reached in another way, such as an attribute of a
    global object, is not found: it works all the same, but an exported program has its weights as constants.
    """
    found: list[nn.Module] = []
    seen: set[int] = set()
    to_see: list[Any] = [denoiser]
    while to_see:
        thing = to_see.pop(0)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found.append(thing)
        else:
            to_see.extend(_inside(thing))
    inner = {id(part) for net in found for part in net.modules() if part is not net}
    return [net for net in found if id(net) not in inner]


def _inside(thing: Any) -> Iterable[Any]:
    for kind, parts in _PARTS.items():
        if isinstance(thing, kind):
            return parts(thing)
    return ()


def _of_function(function: FunctionType) -> Iterable[Any]:
    names = inspect.getclosurevars(function)
    # Not through functions that are global: they lead all over their libraries.
    return (*names.nonlocals.values(), *(value for value in names.globals.values() if not inspect.isroutine(value)))


_PARTS: dict[type, Any] = {
    BaseDenoiser: lambda denoiser: vars(denoiser).values(),
    MethodType: lambda method: (method.__self__,),
    FunctionType: _of_function,
    partial: lambda made: (made.func, *made.args, *made.keywords.values()),
    list: lambda items: items,
    tuple: lambda items: items,
    dict: lambda items: items.values(),
}
