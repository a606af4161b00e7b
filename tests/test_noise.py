"""The counter-based generator against its published vectors, and the normals against the law."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde.noise import normal, philox

# Known-answer vectors of Random123 (Salmon et al. 2011) for philox4x32 with 10 rounds: counter, key, result.
ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), ANSWERS)
def test_philox_known_answers(counter, key, answer) -> None:
    words = philox([torch.tensor([c], dtype=torch.int64) for c in counter], key)
    assert tuple(int(w) for w in words) == answer


@given(
    batch=st.integers(1, 5), first=st.integers(0, 2**40), seed=st.integers(-(2**63), 2**64 - 1), size=st.integers(1, 9)
)
def test_a_row_depends_on_seed_index_and_stream_only(batch: int, first: int, seed: int, size: int) -> None:
    whole = normal((batch, size), seed, first, stream=3, dtype=torch.float64)
    for b in range(batch):
        assert torch.equal(normal((1, size), seed, first + b, stream=3, dtype=torch.float64)[0], whole[b])
    order = list(range(first + batch - 1, first - 1, -1))
    assert torch.equal(normal((batch, size), seed, order, stream=3, dtype=torch.float64), whole.flip(0))


def test_dtypes_share_the_noise() -> None:
    double = normal((4, 7), 1, dtype=torch.float64)
    assert torch.equal(normal((4, 7), 1, dtype=torch.float32), double.float())
    assert torch.equal(normal((4, 7), 1, dtype=torch.bfloat16), double.bfloat16())


def test_seeds_beyond_32_bits_indices_and_streams_differ() -> None:
    draws = [
        normal((1, 64), seed, index, stream)
        for seed in (0, 1, 2**32, -1)
        for index in (0, 1, 2**32)
        for stream in (0, 1)
    ]
    for i, a in enumerate(draws):
        for b in draws[i + 1 :]:
            assert abs(torch.corrcoef(torch.stack([a[0], b[0]]))[0, 1]) < 0.5


def test_normal_law() -> None:
    z = normal((2000, 100), 5, dtype=torch.float64).flatten()
    n = z.numel()
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    ordered = z.sort().values
    uniform = torch.special.ndtr(ordered)
    distance = (uniform - (torch.arange(n, dtype=torch.float64) + 0.5) / n).abs().max()
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov–Smirnov at 0.1 %
    neighbours = normal((2000, 100), 5, dtype=torch.float64)
    assert abs((neighbours[:-1] * neighbours[1:]).mean()) < 4 / math.sqrt(n)  # between samples
    assert abs((neighbours[:, :-1] * neighbours[:, 1:]).mean()) < 4 / math.sqrt(n)  # within a sample


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normal((), 0), "shape must be"),
        (lambda: normal((2, 2), 2**64), "seed must fit 64 bits"),
        (lambda: normal((2, 2), 0, [1]), "one for each of the 2 samples; got 1"),
        (lambda: normal((1, 2), 0, -1), "index must be in"),
        (lambda: normal((1, 2), 0, 0, -1), "stream must be in"),
    ],
)
def test_bad_arguments(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
