"""Noise that is a function of (seed, sample index, stream), and of nothing else.

A sample must not depend on the batch it was drawn in, on the number of processes, or on the order of draws. Generators
with a running state cannot give that (and torch's CPU generator keeps only 32 bits of its seed), so the bits come from
a counter-based generator, Philox-4x32 with ten rounds (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as
easy as 1, 2, 3", SC'11), and become normals by Box & Muller (1958) in float64. The integers are the same on every
device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Philox-4x32-10: four words of 32 random bits for each counter of four words.

    Args:
        counter: four int64 tensors that broadcast together, values in [0, 2^32).
        key: two words in [0, 2^32).

    Returns:
        Four int64 tensors with values in [0, 2^32).
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The product wraps in int64, but its 64 bits are right; the shift copies the sign, which the mask removes.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK).bitwise_xor_(c1).bitwise_xor_(k0),
            p1.bitwise_and_(_MASK),
            ((p0 >> 32) & _MASK).bitwise_xor_(c3).bitwise_xor_(k1),
            p0.bitwise_and_(_MASK),
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return [c0, c1, c2, c3]


def normal(
    shape: Sequence[int],
    seed: int,
    index: int | Sequence[int] = 0,
    stream: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
) -> Tensor:
    """Standard normal noise; row b depends only on (seed, its sample index, stream).

    The draw is made in float64 and rounded, so that the noise is the same in every dtype.

    Args:
        shape: (batch, ...).
        seed: any int that fits 64 bits.
        index: the index of the first sample, the others follow; or one index for each sample.
        stream: number of the draw: 0 for initial states, 1 + k for the noise z_k of a plan; Brownian paths take 2^31 to
            2^31 + 2^30 and (those of a grid) the next 2^29, targets the last ones downwards.

    Raises:
        ValueError: no batch dimension, seed or index out of range, or as many indices as there are not samples.
    """
    shape = tuple(int(n) for n in shape)
    if not shape:
        raise ValueError("shape must be (batch, ...), got ()")
    if seed < -(2**63) or seed >= 2**64:
        raise ValueError(f"seed must fit 64 bits, got {seed}")
    indices = range(index, index + shape[0]) if isinstance(index, int) else [int(i) for i in index]
    if len(indices) != shape[0]:
        raise ValueError(f"index must be one int, or one for each of the {shape[0]} samples; got {len(indices)}")
    if len(indices) and not (min(indices) >= 0 and max(indices) < 2**63):
        raise ValueError(f"index must be in [0, 2^63), got {min(indices)} .. {max(indices)}")
    if not 0 <= stream < 2**32:
        raise ValueError(f"stream must be in [0, 2^32), got {stream}")

    size = math.prod(shape[1:])
    lanes = torch.arange((size + 3) // 4, dtype=torch.int64, device=device)
    if isinstance(indices, range):  # made on the device: a copy from the host would wait for it
        sample = torch.arange(indices.start, indices.stop, dtype=torch.int64, device=device)[:, None]
    else:
        sample = torch.tensor(indices, dtype=torch.int64).to(device)[:, None]
    draw = torch.full((), stream, dtype=torch.int64, device=device)
    words = philox((lanes, sample & _MASK, sample >> 32, draw), (seed & _MASK, (seed >> 32) & _MASK))
    u0, u1, u2, u3 = (w.to(torch.float64).add_(0.5).mul_(2.0**-32) for w in words)
    pairs = []
    for uniform, angle in ((u0, u1), (u2, u3)):
        radius = uniform.log_().mul_(-2).sqrt_()
        angle = angle.mul_(2 * math.pi)
        pairs += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack(pairs, dim=-1).reshape(shape[0], -1)[:, :size].reshape(shape).to(dtype)
