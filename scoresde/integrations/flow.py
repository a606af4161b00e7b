r"""Flow-matching networks, ``velocity(x, t)``, in any of their conventions.

A velocity is :math:`dx/dt = \alpha' x_0 + \sigma' \epsilon` along a path :math:`x = \alpha x_0 + \sigma \epsilon`
(Lipman et al. 2023, arXiv:2210.02747, eq. 8; Liu et al. 2022, arXiv:2209.03003). With x it determines x_0:

.. math:: x_0 = \frac{\sigma' x - \sigma\, dx/dt}{\sigma' \alpha - \sigma \alpha'}

>>> import scoresde as ss
>>> from scoresde.integrations import flow
>>> denoiser = flow.from_velocity(lambda x, t: x, convention="data-at-one")  # yours
>>> ss.sample(denoiser, (2, 3, 8, 8), solver="unipc-3", nfe=10).shape
torch.Size([2, 3, 8, 8])
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoresde.denoiser import BaseDenoiser, Denoiser, Evaluation, weighted
from scoresde.errors import choose
from scoresde.integrations.common import callable_as
from scoresde.sde import SDE, RectifiedFlow
from scoresde.sde.schedule import Schedule, slopes

__all__ = ["CONVENTIONS", "ORDERS", "Velocity", "from_velocity", "lipman"]

# Which way the network's time runs: dx/dt of ours from its velocity, and its time from ours.
CONVENTIONS: dict[str, tuple[float, Callable[[Any], Any]]] = {
    "noise-at-one": (1.0, lambda t: t),  # Stable Diffusion 3, Flux, diffusers: t = 1 is noise, u = noise - data
    "data-at-one": (-1.0, lambda t: 1.0 - t),  # Lipman, torchcfm, flow_matching, SiT: t = 1 is data, u = data - noise
}
ORDERS: dict[str, Callable[[Callable[..., Tensor]], Callable[..., Tensor]]] = {
    "xt": lambda velocity: velocity,
    "tx": lambda velocity: lambda x, t, **cond: velocity(t, x, **cond),  # torchcfm, torchdyn
}


class Velocity(BaseDenoiser):
    """A network that gives dx/dt along a process, as a denoiser.

    Args:
        velocity: called with x (B, ...), times (B,) and the conditions; gives dx/dt in its own time.
        sde: the path.
        sign: of dx/dt in the process's time in terms of its own.
        time: its time from the process's.
    """

    def __init__(
        self, velocity: Callable[..., Tensor], sde: SDE, sign: float = 1.0, time: Callable[[Any], Any] = lambda t: t
    ) -> None:
        # What calls the network, with its checks; the velocity is no kind of prediction that it knows of.
        self._net = Denoiser(velocity, sde, "flow", lambda _, t: time(t))
        self.sde, self.sign, self.time = sde, sign, time

    def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """E[x0 | x_t = x]; see :meth:`scoresde.BaseDenoiser.__call__`."""
        return self.evaluate(x, t, **cond).prediction.to(x.dtype)

    def evaluate(self, x: Tensor, t: float | Tensor, **cond: Any) -> Evaluation:
        """x0, in float32 or better."""
        out = self._net.evaluate(x, t, **cond).prediction
        on_x, on_out = self._weights(t)
        return Evaluation(weighted(x, out, on_x, on_out))

    def _weights(self, t: float | Tensor) -> tuple[Any, Any]:
        """(on x, on the network's output) that give x0; floats for one time, else (B,) tensors."""
        times = torch.as_tensor(t, dtype=torch.float64)
        alpha, sigma, (fall, rise) = self.sde.alpha(times), self.sde.sigma(times), slopes(self.sde, times)
        det = rise * alpha - sigma * fall
        on_x, on_out = rise / det, -self.sign * sigma / det
        return (on_x, on_out) if times.ndim else (on_x.item(), on_out.item())

    def __repr__(self) -> str:
        return f"Velocity({self._net.net!r}, {self.sde!r})"


def from_velocity(
    velocity: Callable[..., Tensor],
    *,
    convention: str = "noise-at-one",
    sde: SDE | None = None,
    time_scale: float = 1.0,
    order: str = "xt",
) -> BaseDenoiser:
    """A flow-matching network as a denoiser.

    On the straight path, ``RectifiedFlow``, the network is told the noise level (or 1 minus it) whatever the shift of
    the process, which moves time grids only. On another path it is told that path's time t, or 1 - t, and its velocity
    is the derivative by that time.

    Args:
        velocity: called as ``velocity(x, t, **cond)`` with t (B,).
        convention: "noise-at-one": t = 1 is noise, the straight path's velocity is noise - data (Stable Diffusion 3,
            Flux, diffusers). "data-at-one": t = 1 is data, it is data - noise (Lipman, torchcfm, flow_matching, SiT).
        sde: the path, RectifiedFlow() by default; such as VP() or, of any functions,
            :class:`scoresde.sde.schedule.Schedule`, or :func:`lipman`.
        time_scale: what the network's time is multiplied with: 1000 for networks of diffusers.
        order: "xt", or "tx" for ``velocity(t, x, **cond)`` (torchcfm).

    Raises:
        TypeError: velocity cannot be called, or sde is not a process.
        ValueError: an unknown convention or order, a time scale that is not positive, or data-at-one on a process whose
            time goes beyond 1.
    """
    velocity = callable_as(velocity, "velocity(x, t, **cond)")
    sign, time = choose(convention, CONVENTIONS, "convention")
    net = choose(order, ORDERS, "order")(velocity)
    if not (time_scale > 0.0 and math.isfinite(time_scale)):
        raise ValueError(f"time_scale must be positive and finite, got {time_scale}")
    sde = RectifiedFlow() if sde is None else sde
    if not isinstance(sde, SDE):
        raise TypeError(f"sde must be a process such as scoresde.RectifiedFlow(), got {sde!r}")
    if isinstance(sde, RectifiedFlow):
        own = net if sign > 0 else _negated(net)
        return Denoiser(own, sde, "flow", lambda sde, t: time_scale * time(sde.sigma(t)))
    if sde.alpha(sde.T) == 0.0 and not isinstance(sde, Schedule):
        raise ValueError(
            f"sde: {sde!r} has alpha = 0 at t={sde.T}, where no velocity says x0 by its drift; give a Schedule"
        )
    if sign < 0 and sde.T > 1.0:
        raise ValueError(f"convention={convention!r} has noise at t=0 and data at t=1, and {sde!r} goes to {sde.T}")
    return Velocity(net, sde, sign, lambda t: time_scale * time(t))


def lipman(sigma_min: float = 1e-4, eps: float = 1e-3) -> Schedule:
    r"""The path of Lipman et al. 2023 (arXiv:2210.02747, eq. 22), which keeps some noise in the data:
    :math:`\alpha = 1 - t, \sigma = \sigma_{min} + (1 - \sigma_{min}) t` in our direction of time.

    Args:
        sigma_min: noise left at the data, within (0, 1); at 0 it is RectifiedFlow.
        eps: see :class:`scoresde.sde.schedule.Schedule`.

    Raises:
        ValueError: sigma_min outside (0, 1).
    """
    if not 0.0 < sigma_min < 1.0:
        raise ValueError(f"sigma_min must be within (0, 1), got {sigma_min}; the path of 0 is RectifiedFlow()")
    return Schedule(partial(_straight, sigma_min), eps=eps)


def _straight(sigma_min: float, t: Tensor) -> tuple[Tensor, Tensor]:
    return 1.0 - t, sigma_min + (1.0 - sigma_min) * t


def _negated(net: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, t, **cond: -net(x, t, **cond)
