"""Song's score functions and processes (score_sde_pytorch; Song et al. 2021, arXiv:2011.13456), and ours as his.

>>> import torch, scoresde as ss
>>> from scoresde.integrations import score_sde
>>> score_fn = lambda x, t: -x  # yours; sde is an sde_lib.VPSDE(...), or a process of this package
>>> denoiser = score_sde.from_score_sde(score_fn, ss.VP())
>>> ss.sample(denoiser, (2, 3, 8, 8), solver="unipc-3", nfe=10).shape
torch.Size([2, 3, 8, 8])
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde.denoiser import BaseDenoiser, Denoiser, TimeConvention
from scoresde.integrations.common import callable_as, check_denoiser, table_index
from scoresde.sde import SDE, VE, VP, DiscreteVP, SubVP

__all__ = ["from_model", "from_score_sde", "process_of", "to_score_fn"]

ScoreFunction = Callable[..., Tensor]

# A process of score_sde: what it is here, with our options and its attributes. Which one of them an object is, its
# marginal_prob decides: VPSDE and subVPSDE have the same attributes.
PROCESSES: tuple[tuple[type[SDE], dict[str, str]], ...] = (
    (VP, {"beta_min": "beta_0", "beta_max": "beta_1"}),
    (SubVP, {"beta_min": "beta_0", "beta_max": "beta_1"}),
    (VE, {"sigma_min": "sigma_min", "sigma_max": "sigma_max"}),
)
_TIMES = (0.01, 0.3, 0.7, 1.0)  # at which marginals are compared
_TOLERANCE = 1e-4  # relative; score_sde computes in float32


class _Raw(NamedTuple):
    """What score_sde's get_score_fn makes of a model: what it predicts, and what it is told."""

    prediction: str
    time: TimeConvention
    integer: bool = False


def _from_highest(n: int) -> TimeConvention:
    return lambda sde, t: (1.0 - t) * (n - 1)  # entry 0 of a table of NCSN is the most noise


_CONTINUOUS: dict[type[SDE], _Raw] = {
    VP: _Raw("epsilon", lambda sde, t: 999.0 * t),
    SubVP: _Raw("epsilon", lambda sde, t: 999.0 * t),
    VE: _Raw("score", lambda sde, t: sde.sigma(t)),
}


def from_score_sde(score_fn: ScoreFunction, sde: Any) -> Denoiser:
    """A score function of continuous time, ``score_fn(x, t)`` with t (B,) in (0, 1], and its process.

    What ``mutils.get_score_fn(sde, model, continuous=True)`` gives. One of a model trained in discrete steps rounds its
    times; give :func:`from_model` the model itself.

    Args:
        score_fn: gives the gradient of the log density at time t.
        sde: an object of score_sde's sde_lib (see :func:`process_of`), or a process of this package.

    Raises:
        TypeError, ValueError: score_fn cannot be called, or the process is none of those.
    """
    return Denoiser(callable_as(score_fn, "score_fn(x, t)"), process_of(sde), prediction="score")


def from_model(model: Callable[..., Tensor], sde: Any, *, continuous: bool = True) -> Denoiser:
    """A model of score_sde without its wrapper, ``model(x, labels)``: what ``get_score_fn`` does, without its rounding.

    ======== ========== ============================================ =========
    process  continuous the model is told                            and gives
    ======== ========== ============================================ =========
    VP       yes        999 t                                        the noise
    SubVP    either     999 t                                        the noise
    VE       yes        sigma                                        the score
    VP       no         its index of the table, real-valued          the noise
    VE       no         its index from the most noise, an integer    the score
    ======== ========== ============================================ =========

    Args:
        model: the network, in evaluation mode.
        sde: see :func:`process_of`.
        continuous: as in the configuration that it was trained with (``training.continuous``).

    Raises:
        TypeError, ValueError: see :func:`from_score_sde`; or a discrete model with a process that has no table.
    """
    model = callable_as(model, "model(x, labels)")
    process = process_of(sde)
    if continuous or isinstance(process, SubVP):
        raw = _CONTINUOUS.get(type(process))
        if raw is None:
            raise ValueError(
                f"sde: a model of continuous time belongs to VP, SubVP or VE, got {process!r}; for other processes use "
                "scoresde.Denoiser(model, sde, prediction=..., time=...)"
            )
    else:
        process, raw = _discrete(process, sde)
    net = _told_integers(model) if raw.integer else model
    return Denoiser(net, process, raw.prediction, raw.time)


def to_score_fn(denoiser: BaseDenoiser, sde: Any = None) -> ScoreFunction:
    """A denoiser as ``score_fn(x, t)``, for score_sde's samplers and likelihoods. Conditions are keywords.

    Args:
        denoiser: of :class:`scoresde.Denoiser`, or anything that is one.
        sde: the object of sde_lib that it will be used with, which is compared with the denoiser's process.

    Raises:
        TypeError: not a denoiser.
        ValueError: the processes differ.
    """
    check_denoiser(denoiser)
    if sde is not None and not _same(denoiser.sde, process_of(sde)):
        raise ValueError(f"sde is {process_of(sde)!r}, and the denoiser's process {denoiser.sde!r}")

    def score_fn(x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        return denoiser.predict(x, t, "score", **cond)

    return score_fn


def process_of(sde: Any) -> SDE:
    """The process of an sde_lib object: VPSDE, subVPSDE or VESDE, by its attributes and its ``marginal_prob``.

    VPSDE and subVPSDE have beta_0 and beta_1, VESDE sigma_min and sigma_max. A subclass is taken if its marginals are
    those, and a process of this package is given back.

    Raises:
        TypeError: no attributes of these, or no marginal_prob.
        ValueError: marginals of another process.
    """
    if isinstance(sde, SDE):
        return sde
    rows = [row for row in PROCESSES if all(hasattr(sde, name) for name in row[1].values())]
    if not rows or not callable(getattr(sde, "marginal_prob", None)):
        raise TypeError(
            "sde must have marginal_prob, and beta_0 and beta_1 (VPSDE, subVPSDE) or sigma_min and sigma_max (VESDE); "
            f"got {type(sde).__name__}. Pass a process of this package in its place, such as scoresde.VP()"
        )
    found = _marginals(sde)
    for make, attributes in rows:
        process = make(**{ours: float(getattr(sde, theirs)) for ours, theirs in attributes.items()})
        if torch.allclose(_levels(process), found, rtol=_TOLERANCE, atol=_TOLERANCE):
            return process
    tried = " or ".join(make.__name__ for make, _ in rows)
    raise ValueError(
        f"sde: the marginal_prob of {type(sde).__name__} is not that of {tried} with its attributes; pass the process "
        "that it is in its place (scoresde.sde.schedule.Schedule makes one from any alpha and sigma)"
    )


def _marginals(sde: Any) -> Tensor:
    """(alpha, sigma) at the times of comparison, (2, 4), as the object states them, of images of one pixel."""
    t = torch.tensor(_TIMES, dtype=torch.float64)
    mean, std = sde.marginal_prob(torch.ones(len(t), 1, 1, 1, dtype=torch.float64), t)
    return torch.stack([mean.reshape(-1), torch.as_tensor(std).reshape(-1)]).double()


def _levels(process: SDE) -> Tensor:
    t = torch.tensor(_TIMES, dtype=torch.float64)
    return torch.stack([process.alpha(t), process.sigma(t)])


def _same(a: SDE, b: SDE) -> bool:
    return a.T == b.T and torch.allclose(_levels(a), _levels(b), rtol=_TOLERANCE, atol=_TOLERANCE)


def _discrete(process: SDE, sde: Any) -> tuple[SDE, _Raw]:
    """The process and the rule of a model that was trained on a table."""
    steps = getattr(sde, "N", None)
    if isinstance(process, VE) and steps is not None:
        return process, _Raw("score", _from_highest(int(steps)), integer=True)
    if isinstance(process, VP) and hasattr(sde, "discrete_betas"):
        process = DiscreteVP.from_betas(torch.as_tensor(sde.discrete_betas).cpu())
    if isinstance(process, DiscreteVP):
        return process, _Raw("epsilon", partial(_index, process))
    raise ValueError(
        "continuous=False needs the table of the training: a VPSDE with discrete_betas or a VESDE with N of score_sde, "
        f"or a scoresde.DiscreteVP; got {sde!r}"
    )


def _index(process: DiscreteVP, _: SDE, t: Any) -> Any:
    return table_index(process, t)


def _told_integers(model: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(x: Tensor, labels: Tensor, **cond: Any) -> Tensor:
        return model(x, labels.round().clamp_min(0).long(), **cond)

    return call
