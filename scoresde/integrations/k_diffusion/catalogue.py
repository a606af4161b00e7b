"""A sampling function for every solver of the catalogue, in the manner of k-diffusion's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from torch import Tensor

from scoresde.catalogue import TABLE, _plain, get_solver, split_name
from scoresde.integrations.k_diffusion import samplers
from scoresde.integrations.k_diffusion.adaptive import sample_dpm_adaptive
from scoresde.integrations.k_diffusion.call import Call, Callback
from scoresde.integrations.k_diffusion.noise import NoiseSampler

Sampler = Callable[..., Any]
PREFIX = "sample_"
PACKAGE = __name__.rpartition(".")[0]
OWN: dict[str, Sampler] = {
    function.__name__: function
    for function in (
        samplers.sample_euler,
        samplers.sample_euler_ancestral,
        samplers.sample_heun,
        samplers.sample_dpm_2,
        samplers.sample_dpm_2_ancestral,
        samplers.sample_lms,
        samplers.sample_dpm_fast,
        sample_dpm_adaptive,
        samplers.sample_dpmpp_2s_ancestral,
        samplers.sample_dpmpp_sde,
        samplers.sample_dpmpp_2m,
        samplers.sample_dpmpp_2m_sde,
        samplers.sample_dpmpp_3m_sde,
    )
}
PLAIN = {_plain(name.removeprefix(PREFIX)): function for name, function in OWN.items()}


def sampler(name: str) -> Sampler:
    """A sampling function by name.

    Args:
        name: of one of k-diffusion's functions ("sample_dpmpp_2m_sde", "DPM++ 2M SDE"), or of a solver of the catalogue
            (:func:`scoresde.solvers`) or its alias ("sample_unipc_3", "unipc-3", "DPM++ 3M", "res_2s").

    Returns:
        k-diffusion's function with its own signature where it has that name; else a function of ``(model, x, sigmas,
        extra_args=None, callback=None, disable=None, *, noise_sampler=None, <options of the solver>)``.

    Raises:
        TypeError: not a name.
        ValueError: no such sampler (the nearest names are listed), or a name with a grid, which sigmas are in place of.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be that of a sampler, such as 'dpmpp_2m', got {type(name).__name__}")
    plain = _plain(name.removeprefix(PREFIX))
    if plain in PLAIN:
        return PLAIN[plain]
    found, grid = split_name(name.removeprefix(PREFIX))
    if grid is not None:
        raise ValueError(f"name={name!r} names the grid {grid!r} too: the sigmas that you pass are the grid")
    return OWN.get(function_name(found)) or _made(found)


def function_name(solver: str) -> str:
    """How the function of a solver of the catalogue is called."""
    return PREFIX + solver.replace("-", "_")


def names() -> list[str]:
    """The names of all functions: k-diffusion's, then those of the catalogue."""
    return list(dict.fromkeys([*OWN, *map(function_name, TABLE)]))


@cache
def _made(name: str) -> Sampler:
    """The function of one solver; its options are those of :func:`scoresde.get_solver`."""

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
        *,
        noise_sampler: NoiseSampler | None = None,
        **options: Any,
    ) -> Tensor:
        solver = get_solver(name, **options)
        call = Call(model, x, sigmas, extra_args, callback, disable)
        return call.solve(solver, call.draw(noise_sampler))

    sample.__name__ = sample.__qualname__ = function_name(name)
    sample.__module__ = PACKAGE  # where it is found, so that it can be pickled
    sample.__doc__ = _described(name)
    sample.__signature__ = _signature(sample, name)  # type: ignore[attr-defined]
    return sample


def _signature(function: Sampler, name: str) -> inspect.Signature:
    plain, solver = inspect.signature(function, eval_str=False), get_solver(name)
    common = [p for p in plain.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            option, inspect.Parameter.KEYWORD_ONLY, default=getattr(solver, option), annotation=p.annotation
        )
        for option, p in inspect.signature(TABLE[name].make).parameters.items()
    ]
    return plain.replace(parameters=[*common, *options])


def _described(name: str) -> str:
    entry, solver = TABLE[name], get_solver(name)
    options = ", ".join(inspect.signature(entry.make).parameters)
    return (
        f"The solver {name!r} of the catalogue: {entry.summary or type(solver).__name__}.\n\n"
        f"{getattr(solver, 'paper', '')}\n\n"
        "Args:\n"
        "    model, x, sigmas, extra_args, callback, disable, noise_sampler: as of k-diffusion's functions.\n"
        f"    {options or '(no options)'}: of :class:`{type(solver).__module__}.{type(solver).__qualname__}`.\n\n"
        "Returns:\n    The sample, (B, ...).\n\n"
        "Raises:\n    TypeError, ValueError: bad arguments, before any work.\n"
    )
