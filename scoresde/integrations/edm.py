"""Networks of EDM and EDM2: ``net(x, sigma, class_labels)`` denoises (Karras et al. 2022, arXiv:2206.00364).

>>> import torch, scoresde as ss
>>> from scoresde.integrations import edm
>>> net = lambda x, sigma, class_labels=None: x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)  # yours
>>> denoiser = edm.from_edm(net)
>>> ss.sample(denoiser, (2, 3, 8, 8), solver="heun", grid="edm", steps=18).shape
torch.Size([2, 3, 8, 8])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from scoresde.denoiser import Denoiser, EDMPrecond
from scoresde.integrations.common import callable_as
from scoresde.integrations.weights import load_state, read_state
from scoresde.sde import EDM, SDE

__all__ = ["from_edm", "from_raw", "load_state", "read_state", "round_times"]

# The range of noise that the official sampler uses, where the network supports it.
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


def from_edm(
    net: Callable[..., Tensor],
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    label_dim: int | None = None,
    round_sigma: bool = False,
) -> Denoiser:
    """A preconditioned network of EDM (EDMPrecond, VPPrecond, VEPrecond, iDDPMPrecond) or EDM2 (Precond).

    All of these are called as ``net(x, sigma, class_labels=None)`` with x = x0 + sigma noise, and give the denoised x;
    they compute in float32 whatever x is, and the state of a sampler keeps its own dtype. Conditions go to the network
    by name; ``class_labels`` may also be indices, (B,) integers, which become the one-hot rows that it takes, -1 being
    no class.

    Args:
        net: the network.
        sigma_min, sigma_max: the range of the process; by default 0.002 to 80, or what the network supports of it. Each
            is moved to the nearest level that the network has (``net.round_sigma``).
        label_dim: classes; by default the network's ``label_dim``. If neither is known, labels are passed on as given.
        round_sigma: tell the network ``net.round_sigma(sigma)`` in place of sigma. To have the noise levels themselves
            rounded, as the official sampler does, pass the grid through :func:`round_times`.

    Raises:
        TypeError: net cannot be called, or has no method round_sigma and that was asked for.
        ValueError: a range outside the network's.
    """
    time: Any = "sigma"
    if round_sigma:
        _need_rounding(net)
        time = partial(_rounded, net)
    return Denoiser(
        _labelled(net, _label_dim(net, label_dim)), _process(net, sigma_min, sigma_max), prediction="x0", time=time
    )


def from_raw(
    net: Callable[..., Tensor], sde: SDE | None = None, *, sigma_data: float = 0.5, label_dim: int | None = None
) -> Denoiser:
    """A network without its preconditioning, called as ``net(x, c_noise, class_labels)``: SongUNet, DhariwalUNet, UNet.

    Args:
        net: the network; class_labels is always passed: None without, or zeros if label_dim is given.
        sde: the process, EDM() by default; the preconditioning depends on sigma/alpha alone, and any process will do.
        sigma_data: standard deviation of the data, as in training.
        label_dim: see :func:`from_edm`.

    Raises:
        TypeError, ValueError: see :class:`scoresde.Denoiser`.
    """
    named = _labelled(net, _label_dim(net, label_dim), always=True)
    return Denoiser(named, EDM() if sde is None else sde, time="c_noise", precondition=EDMPrecond(sigma_data))


def round_times(net: Any, times: Iterable[float]) -> tuple[float, ...]:
    """A grid of EDM moved to the noise levels that the network supports (``net.round_sigma``), doubles left out.

    ``ss.sample(denoiser, shape, grid=edm.round_times(net, ss.get_grid("edm", denoiser.sde, 18)))``

    Args:
        net: a network with the method round_sigma.
        times: decreasing noise levels; 0 stays 0.

    Raises:
        TypeError: net has no such method.
        ValueError: fewer than two levels are left.
    """
    _need_rounding(net)
    given = [float(t) for t in times]
    levels = net.round_sigma(torch.tensor([t for t in given if t > 0.0], dtype=torch.float64)).tolist()
    ends = [0.0] if given and given[-1] == 0.0 else []
    rounded = (*dict.fromkeys(level for level in levels if level > 0.0), *ends)
    if len(rounded) < 2:
        raise ValueError(f"times must have at least two levels after rounding, got {rounded} of {tuple(given)}")
    return rounded


def _process(net: Any, sigma_min: float | None, sigma_max: float | None) -> EDM:
    """What is asked for, within what the network supports."""
    low, high = float(getattr(net, "sigma_min", 0.0)), float(getattr(net, "sigma_max", math.inf))
    for name, given in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
        if given is not None and not low <= given <= high:
            raise ValueError(f"{name}={given} is outside the network's range, {low:.4g} to {high:.4g}")
    ends = (
        max(SIGMA_MIN, low) if sigma_min is None else sigma_min,
        min(SIGMA_MAX, high) if sigma_max is None else sigma_max,
    )
    if callable(getattr(net, "round_sigma", None)):
        # So that a rounded grid lies within the process. A table ends in 0, where no process does.
        rounded = net.round_sigma(torch.tensor(ends, dtype=torch.float64)).tolist()
        ends = tuple(near or end for near, end in zip(rounded, ends, strict=True))
    return EDM(*ends)


def _need_rounding(net: Any) -> None:
    if not callable(getattr(net, "round_sigma", None)):
        raise TypeError(f"net must have a method round_sigma to round noise levels with; {type(net).__name__} has none")


def _rounded(net: Any, sde: SDE, t: Any) -> Tensor:
    return net.round_sigma(torch.as_tensor(sde.sigma(t), dtype=torch.float64))


def _label_dim(net: Any, given: int | None) -> int | None:
    return getattr(net, "label_dim", None) if given is None else given


def _labelled(net: Any, label_dim: int | None, *, always: bool = False) -> Callable[..., Tensor]:
    """The network with labels as it takes them, and none passed where there are none unless ``always``."""
    net = callable_as(net, "net(x, sigma, class_labels=None)")

    def call(x: Tensor, level: Tensor, class_labels: Tensor | None = None, **options: Any) -> Tensor:
        if class_labels is not None and label_dim is not None:
            class_labels = _rows(class_labels, label_dim, x)
        elif always and label_dim:
            class_labels = x.new_zeros(1, label_dim)  # what EDM's preconditioning makes of no labels
        labels = {} if class_labels is None and not always else {"class_labels": class_labels}
        return net(x, level, **labels, **options)

    return call


def _rows(labels: Tensor, label_dim: int, x: Tensor) -> Tensor:
    """One row a sample. EDM reshapes what it is given to (-1, label_dim), and 10 indices of 10 classes would become one
    row that all samples share."""
    if label_dim == 0:
        raise ValueError("class_labels: the network has no classes (label_dim=0); leave them out")
    shape = tuple(labels.shape)
    if shape in ((1, label_dim), (len(x), label_dim)):
        return labels.to(x.dtype)
    if shape != (len(x),) or labels.is_floating_point():
        raise ValueError(
            f"class_labels must be {len(x)} integers, one a sample, or rows of {label_dim} numbers, one or {len(x)} of "
            f"them; got {labels.dtype} {shape}"
        )
    if labels.device.type == "cpu" and bool(((labels < -1) | (labels >= label_dim)).any()):
        raise ValueError(f"class_labels must be below label_dim={label_dim}, or -1 for none; got {labels.tolist()}")
    rows = one_hot(labels.long().clamp_min(0), label_dim)
    return (rows * (labels >= 0)[:, None]).to(x.dtype)
