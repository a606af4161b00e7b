"""Other people's pipelines, networks and sampling functions, and the samplers of this package in them.

Each submodule is loaded when it is first named, so that ``import scoresde`` needs none of the libraries they are for:
``scoresde.integrations.diffusers.Scheduler`` imports diffusers, and nothing else does.
"""

from __future__ import annotations

import importlib
from types import ModuleType

SUBMODULES = ("azula", "diffusers", "edm", "flow", "guided_diffusion", "k_diffusion", "score_sde")


def __getattr__(name: str) -> ModuleType:
    if name in SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its modules: {', '.join(SUBMODULES)}")


def __dir__() -> list[str]:
    return [*globals(), *SUBMODULES]
