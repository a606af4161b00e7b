"""A network under another process than the one it was trained on.

What a denoiser knows depends on x / sqrt(alpha^2 + sigma^2) and on the log-SNR alone (Karras et al. 2022,
arXiv:2206.00364, section 2): a state of one process is scaled to the state of the same noise level of another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scoresde.denoiser import BaseDenoiser, Evaluation
from scoresde.sde import SDE

__all__ = ["Carried", "under"]

SHARED = ("x0", "epsilon")  # predictions that are the same numbers under every process
BEYOND = 1e-3  # of half the log-SNR, by which a process may be noisier than the network's: 80 against 80.0001


def under(denoiser: BaseDenoiser, sde: SDE) -> BaseDenoiser:
    """The denoiser under that process: itself, or :class:`Carried`.

    Raises:
        ValueError: the process begins noisier than anything that the network has seen; the message says where to begin
            instead.
    """
    theirs = denoiser.sde
    if theirs == sde:
        return denoiser
    if sde.lam(sde.T) < theirs.lam(theirs.T) - BEYOND:
        known, wanted = theirs.rho(theirs.T), sde.rho(sde.T)
        raise ValueError(
            f"sde: {sde.name} begins at sigma/alpha = {wanted:.5g}, and the network of {theirs.name} knows noise up to "
            f"{known:.5g}: begin there, with the option {_option(sde, sde.t_at_lam(theirs.lam(theirs.T)))}"
        )
    return Carried(denoiser, sde)


def _option(sde: SDE, t: float) -> str:
    """The option of the process that makes t its noisiest time."""
    name = "T" if "T" in sde.config() else "sigma_max"  # of EDM, where time is the noise level
    return f"{name} = {t * (1 - 1e-5):.6g}"  # rounded to a lower level, never to a higher one


class Carried(BaseDenoiser):
    """A denoiser of one process that answers for another.

    Args:
        inner: the denoiser.
        sde: the process of the states and times that it is asked about.
    """

    def __init__(self, inner: BaseDenoiser, sde: SDE) -> None:
        self.inner, self.sde = inner, sde

    def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """E[x0 | x_t = x]; see :class:`scoresde.denoiser.BaseDenoiser`."""
        return self.inner(*self._same_level(x, t), **cond)

    def predict(self, x: Tensor, t: float | Tensor, kind: str = "x0", **cond: Any) -> Tensor:
        """The prediction of the given kind."""
        if kind in SHARED:
            return self.inner.predict(*self._same_level(x, t), kind, **cond)
        return super().predict(x, t, kind, **cond)

    def evaluate(self, x: Tensor, t: float | Tensor, **cond: Any) -> Evaluation:
        """The network's own prediction where it is the same under both processes, else x0."""
        y, own = self._same_level(x, t)
        prediction, kind, unconditional = self.inner.evaluate(y, own, **cond)
        if kind in SHARED:
            return Evaluation(prediction, kind, unconditional)
        if unconditional is not None:
            unconditional = self.inner.converted(y, own, unconditional, kind, "x0")
        return Evaluation(self.inner.converted(y, own, prediction, kind, "x0"), "x0", unconditional)

    def _same_level(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Any]:
        """The state and the time of the network's own process."""
        ours, theirs = self.sde, self.inner.sde
        time = torch.as_tensor(t, dtype=torch.float64).cpu()  # where the tables of processes are
        lam, lowest = ours.lam(time), theirs.lam(theirs.T)
        own = torch.where(lam > lowest, theirs.t_at_lam(lam.clamp_min(lowest)), theirs.T)
        scale = _norm(theirs, own) / _norm(ours, time)
        if not isinstance(t, Tensor):
            return x * scale.item(), own.item()
        return x * scale.to(x).reshape((-1,) + (1,) * (x.ndim - 1) if t.ndim else ()), own

    def __repr__(self) -> str:
        return f"Carried({self.inner!r}, {self.sde!r})"


def _norm(sde: SDE, t: Tensor) -> Tensor:
    return (sde.alpha(t) ** 2 + sde.sigma(t) ** 2).sqrt()
