r"""A process from any functions :math:`\alpha(t), \sigma(t)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from scoresde.sde.base import SDE, check_increasing, check_positive

Levels = Callable[[Tensor], tuple[Tensor, Tensor]]

_CHECKED = 64  # times at which a schedule is tried before it is believed
_NODES = 512  # of the table that brackets a time by its lambda, twice
_STEPS = 100  # a bracket is halved where Newton leaves it, so that this many always do
_CLOSE = 1e-9  # relative: the error of a Newton step this short is below rounding


def slopes(sde: SDE, t: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`(\alpha', \sigma') = (f\alpha,\; f\sigma + g^2/2\sigma)` at time t, of any process.

    Args:
        sde: the process.
        t: positive times, any shape; alpha(t) > 0, except of a :class:`Schedule`.

    Raises:
        ValueError: sigma of a Schedule does not depend on t through torch operations.
    """
    t = t.to(torch.float64)
    if isinstance(sde, Schedule):
        return _with_slopes(sde.levels, t)[2:]
    drift, sigma = sde.drift(t), sde.sigma(t)
    return drift * sde.alpha(t), drift * sigma + sde.diffusion_squared(t) / (2 * sigma)


def _with_slopes(levels: Levels, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(alpha, sigma, alpha', sigma') at t, float64 of its shape."""
    with torch.inference_mode(False), torch.enable_grad():  # sampling runs without gradients
        u = t.detach().clone().requires_grad_()
        alpha, sigma = levels(u)
        if not sigma.requires_grad:
            raise ValueError("sigma must be computed from the given times with torch operations, to have a slope")
        (rise,) = torch.autograd.grad(sigma.sum(), u, retain_graph=alpha.requires_grad)  # they may share a part
        fall = torch.autograd.grad(alpha.sum(), u)[0] if alpha.requires_grad else torch.zeros_like(u)
    return alpha.detach(), sigma.detach(), fall, rise


@dataclass(frozen=True)
class Schedule(SDE):
    r"""A process from a function :math:`t \mapsto (\alpha, \sigma)`, for paths that have no class here.

    Derivatives come from automatic differentiation, and the time of a given :math:`\lambda` from Newton's method; a
    :math:`\lambda` beyond the schedule's is at its end. As in every process t = 0 is the data itself, even where
    sigma(0) is not 0. It cannot be saved as a configuration: there is a function in it.

    >>> from scoresde.sde.schedule import Schedule
    >>> half_turn = Schedule(lambda t: (torch.cos(1.5 * t), torch.sin(1.5 * t)))
    >>> round(half_turn.t_at_lam(half_turn.lam(0.3)), 12)
    0.3

    Args:
        levels: called with a float64 tensor of times in (0, T], gives (alpha, sigma) of its shape; alpha >= 0,
            sigma > 0 and alpha/sigma falls strictly. Torch operations only.
        eps: the end time, where "eps" grids end.
        T: the start time.

    Raises:
        TypeError: levels is not callable.
        ValueError: it does not give such levels, which is tried at some times; or not 0 < eps < T.
    """

    name: ClassVar[str] = "schedule"
    levels: Levels
    eps: float = 1e-3
    T: float = 1.0

    def __post_init__(self) -> None:
        if not callable(self.levels):
            raise TypeError(f"levels must be a function of t that gives (alpha, sigma), got {self.levels!r}")
        check_positive(self, eps=self.eps, T=self.T)
        check_increasing(self, "eps", self.eps, "T", self.T)
        t = torch.linspace(self.eps, self.T, _CHECKED, dtype=torch.float64)
        found = self.levels(t)
        if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(v, Tensor) for v in found)):
            raise ValueError(f"levels must give two tensors (alpha, sigma), got {type(found).__name__}")
        for name, values in zip(("alpha", "sigma"), found, strict=True):
            if values.shape != t.shape or values.dtype != torch.float64:
                raise ValueError(
                    f"levels: {name} must be float64 of the shape of t, {tuple(t.shape)}; got {values.dtype} "
                    f"{tuple(values.shape)}"
                )
        alpha, sigma = found
        good = torch.isfinite(alpha) & torch.isfinite(sigma) & (alpha >= 0) & (sigma > 0)
        if not bool(good.all()):
            i = int((~good).nonzero()[0])
            raise ValueError(
                "levels must be finite with alpha >= 0 and sigma > 0; at t="
                f"{float(t[i]):.4g} they are alpha={float(alpha[i]):.4g}, sigma={float(sigma[i]):.4g}"
            )
        falls = (alpha / sigma).diff() < 0
        if not bool(falls.all()):
            i = int((~falls).nonzero()[0])
            raise ValueError(
                "levels: alpha/sigma must fall strictly from t=0, the data, to t=T, noise; it does not from t="
                f"{float(t[i]):.4g} to {float(t[i + 1]):.4g}. Where data are at t=1, give levels of 1 - t"
            )

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.where(t == 0, 1.0, self.levels(t)[0])

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.where(t == 0, 0.0, self.levels(t)[1])

    def _drift(self, t: Tensor) -> Tensor:
        alpha, _, fall, _ = _with_slopes(self.levels, t)
        return fall / alpha

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        alpha, sigma, fall, rise = _with_slopes(self.levels, t)
        return 2 * sigma * (rise - sigma * fall / alpha)

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Times and their -lambda, both increasing."""
        near = torch.logspace(-9, 0, _NODES, dtype=torch.float64)
        even = torch.linspace(0, 1, _NODES + 1, dtype=torch.float64)[1:]
        t = self.T * torch.cat([near, even]).unique()
        t = torch.cat([torch.full((1,), 1e-30 * self.T, dtype=torch.float64), t])  # where sigma(0) > 0: its lambda
        return t, -self._lam(t)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        times, falling = self._table
        i = torch.searchsorted(falling, -lam).clamp(1, len(times) - 1)
        low, high = times[i - 1], times[i]
        outside = (-lam < falling[0]) | (-lam >= falling[-1])
        part = (-lam - falling[i - 1]) / (falling[i] - falling[i - 1])
        t = low + (high - low) * torch.where((part > 0) & (part < 1), part, 0.5)
        for _ in range(_STEPS):
            alpha, sigma, fall, rise = _with_slopes(self.levels, t)
            excess = alpha.log() - sigma.log() - lam
            low, high = torch.where(excess >= 0, t, low), torch.where(excess <= 0, t, high)
            step = t - excess / (fall / alpha - rise / sigma)
            close = (step - t).abs() <= _CLOSE * t
            t = torch.where(close | ((step >= low) & (step <= high)), step, 0.5 * (low + high))
            if bool((close | outside).all()):
                break
        return torch.where(-lam < falling[0], 0.0, torch.where(-lam >= falling[-1], self.T, t))

    def config(self) -> dict[str, Any]:
        """Raises ValueError: a function cannot be written down."""
        raise ValueError(
            "a Schedule holds a function, which no configuration can; save the levels of its times instead"
        )
