"""Denoisers of azula (https://github.com/probabilists/azula) run by the samplers of this package, and the reverse.

Nothing here imports azula: what is used of its objects is ``denoiser.schedule(t)`` and ``denoiser(x, t).mean``.

>>> import torch, scoresde as ss
>>> from scoresde.integrations import azula
>>> ours = ss.Denoiser(lambda x, t: 0.5 * x, ss.VP(), prediction="epsilon")
>>> theirs = azula.to_azula(ours)  # azula.sample.zEABSampler(theirs, steps=10)(x) runs it
>>> ss.sample(azula.from_azula(theirs), (2, 3), nfe=10).shape
torch.Size([2, 3])
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scoresde.denoiser import BaseDenoiser, Evaluation
from scoresde.integrations.common import callable_as, check_denoiser
from scoresde.sde import SDE
from scoresde.sde.schedule import Schedule

__all__ = ["AzulaDenoiser", "Posterior", "ScoresdeDenoiser", "from_azula", "to_azula"]


class AzulaDenoiser(BaseDenoiser):
    """An azula denoiser over the process of its schedule; see :func:`from_azula`."""

    def __init__(self, denoiser: Any, sde: SDE, time_dtype: torch.dtype | None = None) -> None:
        self.denoiser, self.sde, self.time_dtype = denoiser, sde, time_dtype

    def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """E[x0 | x_t = x]; see :meth:`scoresde.BaseDenoiser.__call__`."""
        return self.evaluate(x, t, **cond).prediction.to(x.dtype)

    def evaluate(self, x: Tensor, t: float | Tensor, **cond: Any) -> Evaluation:
        """The mean of azula's posterior, in its dtype."""
        dtype = self.time_dtype or torch.promote_types(x.dtype, torch.float32)
        posterior = self.denoiser(x, torch.as_tensor(t, dtype=dtype, device=x.device), **cond)
        if not isinstance(getattr(posterior, "mean", None), Tensor):
            raise TypeError(f"denoiser must give a posterior with a mean, got {type(posterior).__name__}")
        return Evaluation(posterior.mean)

    def __repr__(self) -> str:
        return f"AzulaDenoiser({type(self.denoiser).__name__}, {type(self.denoiser.schedule).__name__})"


def from_azula(
    denoiser: Any, *, sde: SDE | None = None, eps: float = 1e-3, time_dtype: torch.dtype | None = None
) -> AzulaDenoiser:
    """An azula denoiser, of any schedule.

    Args:
        denoiser: an azula.denoise.Denoiser; called as ``denoiser(x, t, **cond)`` with t of shape () or (B,).
        sde: the process; by default made of ``denoiser.schedule`` (:class:`scoresde.sde.schedule.Schedule`).
        eps: where "eps" grids end. azula's schedules have some noise left at t = 0, which the step to the data removes;
            azula's own samplers stop there.
        time_dtype: of t; by default float32, or that of x if it is wider. Most denoisers of azula compute their
            coefficients in it, for which float64 is more exact near the data.

    Raises:
        TypeError: no schedule, or it cannot be called.
        ValueError: a schedule that is none (see :class:`scoresde.sde.schedule.Schedule`).
    """
    callable_as(denoiser, "denoiser(x, t, **cond)")
    schedule: Any = getattr(denoiser, "schedule", None)
    if not callable(schedule):
        raise TypeError(
            f"denoiser must have a schedule, as an azula.denoise.Denoiser has; {type(denoiser).__name__} has none"
        )
    if time_dtype is not None and not time_dtype.is_floating_point:
        raise TypeError(f"time_dtype must be a floating-point dtype, got {time_dtype}")
    process = Schedule(schedule, eps=eps) if sde is None else sde  # type: ignore[arg-type]
    return AzulaDenoiser(denoiser, process, time_dtype)


class Posterior(NamedTuple):
    """What azula's samplers read of a posterior.

    Attributes:
        mean: E[x0 | x_t].
    """

    mean: Tensor


class ScoresdeDenoiser(nn.Module):
    """A denoiser of this package in azula's form; see :func:`to_azula`."""

    def __init__(self, denoiser: BaseDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        net = getattr(denoiser, "net", None)
        self.net = net if isinstance(net, nn.Module) else None  # so that .to(device) and .parameters() reach it

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at azula's time t in [0, 1], in the dtype of t."""
        at, sde = self._time(t), self.denoiser.sde
        return sde.alpha(at).to(t), sde.sigma(at).to(t)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Any) -> Posterior:
        """The posterior, by its mean.

        Args:
            x_t: noisy samples, (B, ...).
            t: in [0, 1], of shape () or (B,).
            cond: what the network is conditioned on.
        """
        return Posterior(self.denoiser(x_t, self._time(t), **cond))

    def _time(self, t: Tensor) -> Tensor:
        """The process's time, where processes compute: on the host, in float64."""
        return t.cpu().to(torch.float64) * self.denoiser.sde.T


def to_azula(denoiser: BaseDenoiser) -> Any:  # a ScoresdeDenoiser; azula's samplers are typed to take their own class
    """A denoiser of this package for azula's samplers: ``azula.sample.DDIMSampler(to_azula(denoiser), steps=20)``.

    azula's time runs over [0, 1] whatever the process: t there is t sde.T here. At t = 0 there is no noise left here,
    and samplers that take its logarithm must stop before: ``stop=denoiser.sde.eps / denoiser.sde.T``.

    Args:
        denoiser: of :class:`scoresde.Denoiser`, or anything that is one.

    Raises:
        TypeError: not a denoiser.
    """
    check_denoiser(denoiser)
    return ScoresdeDenoiser(denoiser)
