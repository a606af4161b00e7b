"""scoresde's samplers and grids as ComfyUI nodes, and in ComfyUI's own lists. Copy this folder into custom_nodes."""

import os

try:
    import scoresde.integrations.k_diffusion  # noqa: F401  (of a version that has what these nodes use)
except ImportError as error:
    raise ImportError(
        "the scoresde nodes need the package scoresde 0.3 or newer in the Python that runs ComfyUI; install it with "
        f"'python -m pip install --upgrade scoresde' ({error})"
    ) from error

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from .registration import register

# Some 150 names join the lists of the stock nodes; SCORESDE_COMFYUI_LISTS=0 leaves these alone.
if os.environ.get("SCORESDE_COMFYUI_LISTS", "1") != "0":
    register()

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
