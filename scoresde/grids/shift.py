r"""The flow shift, which moves a grid towards noise (or data) and composes with any grid on any process.

Rectified flow at high resolution needs more of its time in noise: Esser et al. 2024 (arXiv:2403.03206, section 5.3.2,
eq. 23) replace its time t by st/(1 + (s - 1)t). That multiplies t/(1 - t) by s, so it takes :math:`\log s` off
:math:`\lambda`; and that is the definition here, which needs no particular process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from scoresde.grids.entry import Entry
from scoresde.grids.spacing import positive
from scoresde.sde import SDE


def shift_times(times: Iterable[float], sde: SDE, shift: float) -> list[float]:
    """Take log(shift) off the lambda of each time; data and pure noise stay what they are.

    On rectified flow this is st/(1 + (s - 1)t). A process whose noise is bounded has no place for its first times.
    """
    positive(shift=shift)
    return [_moved(sde, t, -math.log(shift)) for t in times]


def shift_entry(entry: Entry, shift: float) -> Entry:
    """The grid, shifted between the same two ends.

    It is made between the times that the shift moves to ``start`` and ``end``, and then shifted. Where the process has
    no such time, as beyond its most noise, the grid is made from its own end, which stays; all other times are shifted.
    """
    positive(shift=shift)
    by = math.log(shift)

    def make(sde: SDE, steps: int, start: float, end: float) -> list[float]:
        a = min(_moved(sde, start, by), sde.T)
        b = _moved(sde, end, by)
        b = b if b > 0.0 else end
        if b >= a:
            raise ValueError(f"shift={shift} leaves nothing between t={start} and {end} of {sde!r}")
        times = list(entry.make(sde, steps, a, b, **entry.preset))
        moved = shift_times(times, sde, shift)
        # A grid with noise levels of its own may begin below a, or end above b.
        first = start if times[0] == a else moved[0]
        last = end if times[-1] == b else moved[-1]
        return [first, *moved[1:-1], last]

    return replace(entry, make=make, preset={})


def _moved(sde: SDE, t: float, by: float) -> float:
    if t == 0.0 or sde.alpha(t) == 0.0:
        return t
    return sde.t_at_lam(sde.lam(t) + by)


def resolution_shift(pixels: int, base_pixels: int, base_shift: float = 1.0) -> float:
    """The shift for images of so many pixels: base_shift * sqrt(pixels / base_pixels).

    Esser et al. 2024 (arXiv:2403.03206, section 5.3.2, eq. 23): as much uncertainty is left as at the base resolution.

    Args:
        pixels: height times width (of the latents or of the image, as for ``base_pixels``).
        base_pixels: for which ``base_shift`` is right.
    """
    positive(pixels=pixels, base_pixels=base_pixels, base_shift=base_shift)
    return base_shift * math.sqrt(pixels / base_pixels)


def token_shift(
    tokens: int, base_shift: float = 0.5, max_shift: float = 1.15, base_tokens: int = 256, max_tokens: int = 4096
) -> float:
    """The shift of FLUX for a sequence of so many tokens: exp(mu), with mu linear in the tokens.

    ``calculate_shift`` of FLUX and diffusers ("dynamic shifting"), whose exp(mu)/(exp(mu) + 1/t - 1) is the shift by
    exp(mu).

    Args:
        tokens: latent patches of the image: (height / 16) * (width / 16) for FLUX.
        base_shift, max_shift: mu at ``base_tokens`` and at ``max_tokens``.
    """
    positive(tokens=tokens, base_tokens=base_tokens)
    if not max_tokens > base_tokens:
        raise ValueError(f"max_tokens must be above base_tokens={base_tokens}, got {max_tokens}")
    return math.exp(base_shift + (max_shift - base_shift) * (tokens - base_tokens) / (max_tokens - base_tokens))
