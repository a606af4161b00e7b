r"""Noising processes: :math:`dx = f(t)\,x\,dt + g(t)\,dw` with marginals
:math:`x_t = \alpha_t x_0 + \sigma_t \epsilon`.

A process is one small frozen dataclass that states its formulas on float64 tensors; the public methods take a float and
give a float, or a tensor and give a float64 tensor of its shape. Times run from ``sde.T`` (noise) down to ``sde.eps``
or exactly 0; **t = 0 is always the data**: :math:`\alpha = 1, \sigma = 0`.

To add a process: subclass :class:`SDE` in a file here, state its five formulas, add a row to :data:`SDES`, and one to
the table in ``tests/test_sde.py``.
"""

from __future__ import annotations

from typing import Any

from scoresde.errors import choose
from scoresde.sde.base import SDE, Point
from scoresde.sde.discrete import DiscreteVP
from scoresde.sde.rectified_flow import RectifiedFlow
from scoresde.sde.variance_exploding import EDM, VE
from scoresde.sde.variance_preserving import VP, CosineVP, SubVP

SDES: dict[str, type[SDE]] = {c.name: c for c in (VP, CosineVP, SubVP, VE, EDM, RectifiedFlow, DiscreteVP)}


def sde_from_config(config: dict[str, Any]) -> SDE:
    """Build a process from :meth:`SDE.config`.

    Raises:
        ValueError: an unknown name (the nearest are listed) or a bad option.
    """
    options = dict(config)
    return choose(options.pop("name"), SDES, "sde")(**options)


__all__ = [
    "EDM", "SDE", "SDES", "VE", "VP", "CosineVP", "DiscreteVP", "Point", "RectifiedFlow", "SubVP", "sde_from_config",
]  # fmt: skip
