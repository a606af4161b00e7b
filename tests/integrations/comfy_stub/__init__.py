"""The parts of ComfyUI (0.3.64, October 2025) that a custom node meets, written anew so that tests need no ComfyUI.

Same names, signatures, data structures and arithmetic: how a model states its noise levels (``model_sampling``), how
KSAMPLER scales the noise, masks, calls the sampler function and reports progress (``samplers``), where the stock lists
of samplers and schedulers are and how names in them are looked up, what the stock nodes do (``nodes``), how a folder of
custom nodes is loaded (``load_custom_node``). Left out: loading and offloading of weights, previews, conditions other
than a number.
"""

from __future__ import annotations

import copy
import sys
import types
from typing import TYPE_CHECKING

from tests.integrations.comfy_stub import model_patcher, model_sampling, nodes, sample, samplers, sampling

if TYPE_CHECKING:
    import pytest


def modules() -> dict[str, types.ModuleType]:
    """The stub's modules under ComfyUI's names, for ``sys.modules``."""
    comfy, k_diffusion = types.ModuleType("comfy"), types.ModuleType("comfy.k_diffusion")
    for package in (comfy, k_diffusion):
        package.__path__ = []
    found = {
        "comfy": comfy,
        "comfy.k_diffusion": k_diffusion,
        "comfy.k_diffusion.sampling": sampling,
        "comfy.model_patcher": model_patcher,
        "comfy.model_sampling": model_sampling,
        "comfy.sample": sample,
        "comfy.samplers": samplers,
        "nodes": nodes,
    }
    for name, module in found.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(found[parent], child, module)
    return found


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``import comfy.samplers`` and the like find the stub, with its lists as they are, until the tests end."""
    for name in ("SAMPLER_NAMES", "SCHEDULER_NAMES", "SCHEDULER_HANDLERS"):
        monkeypatch.setattr(samplers, name, copy.copy(getattr(samplers, name)))
    monkeypatch.setattr(samplers.KSampler, "SAMPLERS", samplers.SAMPLER_NAMES)
    monkeypatch.setattr(samplers.KSampler, "SCHEDULERS", samplers.SCHEDULER_NAMES)
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
