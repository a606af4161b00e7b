"""EDM's networks: the exact denoiser behind their call, labels, ranges, rounding and half precision."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import scoresde as ss
from scoresde.guidance import ClassifierFree
from scoresde.integrations import edm
from tests.exact import draws, normals
from tests.integrations.networks import IMAGES, EDMNet, TableNet, check_exact, check_samples, edm_raw

TIMES = (0.01, 0.3, 2.0, 60.0)


def test_x0_is_exact() -> None:
    """To single precision, in which the network computes whatever the state."""
    check_exact(edm.from_edm(EDMNet(IMAGES)), IMAGES, TIMES, tol=2e-4)
    check_exact(edm.from_edm(TableNet(IMAGES), round_sigma=False), IMAGES, TIMES, tol=2e-4)


@pytest.mark.parametrize("sde", [None, ss.VP(), ss.RectifiedFlow()], ids=["edm", "vp", "flow"])
def test_a_raw_network_is_preconditioned_on_any_process(sde: ss.SDE | None) -> None:
    denoiser = edm.from_raw(edm_raw(IMAGES, 0.6), sde, sigma_data=0.6)
    check_exact(denoiser, IMAGES, TIMES if sde is None else (0.01, 0.5, 0.9), tol=1e-9)


@pytest.mark.slow
def test_samples_end_where_the_exact_flow_does() -> None:
    check_samples(edm.from_edm(EDMNet(IMAGES)), IMAGES)
    check_samples(edm.from_raw(edm_raw(IMAGES, 0.5), ss.VP()), IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_state_ends_near_the_single_one(dtype: torch.dtype) -> None:
    net = EDMNet(IMAGES)
    denoiser, x = edm.from_edm(net), 80 * normals(8, 2, 2, 3).to(dtype)
    half = ss.sample(denoiser, x.shape, solver="dpmpp-2m", steps=20, x_T=x)
    single = ss.sample(denoiser, x.shape, solver="dpmpp-2m", steps=20, x_T=x.double())
    assert half.dtype == dtype
    assert net.seen[0][0] == dtype
    assert net.seen[-1][0] == torch.float64
    assert (half.double() - single).square().mean().sqrt() < 0.02


def test_the_range_is_what_the_network_supports() -> None:
    def ends(net: object, **options: float) -> tuple[float, float]:
        sde = edm.from_edm(net, **options).sde  # type: ignore[arg-type]
        return sde.eps, sde.T

    assert ends(EDMNet(IMAGES)) == (0.002, 80.0)
    assert ends(EDMNet(IMAGES, sigma_min=0.02, sigma_max=50.0)) == (0.02, 50.0)
    assert ends(EDMNet(IMAGES, sigma_min=0.0, sigma_max=100.0), sigma_min=0.001, sigma_max=100.0) == (0.001, 100.0)
    assert ends(lambda x, sigma, class_labels=None: x) == (0.002, 80.0)  # EDM2's Precond states none


def test_labels_reach_the_network_one_row_a_sample() -> None:
    net = EDMNet(IMAGES, label_dim=3)
    denoiser, x = edm.from_edm(net), normals(3, 2, 2, 3)
    rows = torch.eye(3)[[2, 0, 1]]
    given = {
        "indices": torch.tensor([2, 0, 1]),
        "rows": rows,
        "integer rows": rows.long(),
    }
    for labels in given.values():
        denoiser(x, 1.0, class_labels=labels)
        assert torch.equal(net.seen[-1][2].float(), rows)
    denoiser(x, 1.0, class_labels=torch.tensor([2, -1, 1]))
    assert net.seen[-1][2].sum(1).tolist() == [1.0, 0.0, 1.0]
    denoiser(x, 1.0)
    assert net.seen[-1][2] is None
    denoiser(x, 1.0, force_fp32=True)
    assert net.seen[-1][3] is True
    guided = ClassifierFree(denoiser, 2.0, {"class_labels": -1})
    guided(x, 1.0, class_labels=torch.tensor([2, 0, 1]))
    assert torch.equal(net.seen[-1][2].float(), torch.cat([rows, torch.zeros(3, 3)]))


def test_labels_go_with_their_samples() -> None:
    net = EDMNet(IMAGES, label_dim=3)
    ss.sample(edm.from_edm(net), (4, 2, 2, 3), steps=2, chunk=2, cond={"class_labels": torch.tensor([0, 1, 2, 0])})
    assert [seen[2].argmax(1).tolist() for seen in net.seen] == [[0, 1], [0, 1], [2, 0], [2, 0]]


def test_a_raw_network_always_gets_labels() -> None:
    seen: list[Any] = []

    def net(x, noise_labels, class_labels):
        seen.append(class_labels)
        return x

    x = normals(2, 3)
    edm.from_raw(net)(x, 1.0)
    assert seen == [None]
    edm.from_raw(net, label_dim=4)(x, 1.0)
    assert torch.equal(seen[-1], torch.zeros(1, 4, dtype=torch.float64))
    edm.from_raw(net, label_dim=4)(x, 1.0, class_labels=torch.tensor([1, 3]))
    assert seen[-1].tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


def test_rounding_of_what_the_network_is_told_and_of_the_grid() -> None:
    net = TableNet(IMAGES)
    denoiser = edm.from_edm(net, round_sigma=True)
    x = draws(IMAGES, 1.0, 3.0)
    for t in (3.0, torch.full((5,), 3.0, dtype=torch.float64)):
        denoiser(x, t)
        assert net.seen[-1][1].tolist() == pytest.approx([float(net.round_sigma(torch.tensor(3.0)))] * 5)
    grid = edm.round_times(net, ss.get_grid("edm", denoiser.sde, 18))
    assert denoiser.sde.T == grid[0] == pytest.approx(82.86, abs=0.01)  # the nearest to 80
    assert len(grid) == 18  # the lowest of the 18 levels, 0.002, is nearest to 0
    assert grid[-1] == 0.0
    assert len(edm.round_times(net, ss.get_grid("edm", denoiser.sde, 400))) == 50  # each once
    levels = TableNet.levels.double().tolist()
    assert all(t in levels for t in grid)
    ss.sample(denoiser, (2, 2, 2, 3), solver="heun", grid=grid)
    told = {float(seen[1][0]) for seen in net.seen[2:]}
    assert told == {t for t in grid if t > 0}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: edm.from_edm(3), TypeError, r"net must be callable as net\(x, sigma, class_labels"),  # type: ignore
        (
            lambda: edm.from_edm(EDMNet(IMAGES), round_sigma=True, sigma_min=-1),
            ValueError,
            "outside the network's range",
        ),
        (lambda: edm.from_edm(EDMNet(IMAGES, sigma_max=50.0), sigma_max=80.0), ValueError, "range, 0 to 50"),
        (lambda: edm.from_edm(EDMNet(IMAGES), sigma_max=math.nan), ValueError, "outside"),
        (lambda: edm.from_edm(lambda x, s: x, round_sigma=True), TypeError, "method round_sigma"),
        (lambda: edm.round_times(lambda x, s: x, [1.0, 0.0]), TypeError, "method round_sigma"),
        (lambda: edm.round_times(TableNet(IMAGES), [1e-3, 1e-4]), ValueError, "at least two levels"),
        (lambda: edm.from_raw(lambda x, s, c: x, sigma_data=0.0), ValueError, "sigma_data"),
        *(
            (
                lambda dim=dim, labels=labels: edm.from_edm(EDMNet(IMAGES, label_dim=dim))(
                    torch.zeros(3, 2, 2, 3), 1.0, class_labels=labels
                ),
                ValueError,
                message,
            )
            for dim, labels, message in (
                (0, torch.tensor([1, 2, 3]), "has no classes"),
                (3, torch.tensor([1, 2, 3]), "below label_dim=3"),
                (3, torch.tensor([1, 2]), "3 integers, one a sample"),
                (3, torch.tensor([0.0, 1.0, 2.0]), "rows of 3 numbers"),
                (5, torch.zeros(3, 4), "rows of 5 numbers"),
            )
        ),
    ],
)
def test_errors(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
