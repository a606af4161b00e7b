"""The samplers of other libraries as rows of our benchmark: a plugin of ``scoresde bench`` (``plugins = [...]``).

Each file is one library, and its rows are "library/sampler". No library is imported before one of its rows is prepared,
and a row whose library is missing says what to install. README.md beside this file lists them, and what differs.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.peers import azula, diffusers, k_diffusion, skrample, torchdiffeq
from scoresde.bench.samplers import Factory

SAMPLERS: Mapping[str, Factory] = {
    **diffusers.SAMPLERS,
    **k_diffusion.SAMPLERS,
    **azula.SAMPLERS,
    **torchdiffeq.SAMPLERS,
    **skrample.SAMPLERS,
}
