"""What every noising process has: points of noise, marginals, and the checks of its options."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value", float, Tensor)


class Point(NamedTuple):
    """One noise level, as host floats: the time and the marginal's alpha and sigma."""

    t: float
    alpha: float
    sigma: float

    @property
    def lam(self) -> float:
        """Half the log signal-to-noise ratio, log(alpha / sigma); +inf at the data, -inf where alpha = 0."""
        if self.sigma == 0.0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0.0 else -math.inf

    @property
    def rho(self) -> float:
        """sigma / alpha, the "sigma" of EDM and k-diffusion; inf where alpha = 0."""
        return self.sigma / self.alpha if self.alpha > 0.0 else math.inf


class SDE(ABC):
    """A noising process. Subclasses give the formulas (underscored methods, float64 tensors in and out)."""

    name: ClassVar[str]
    T: float
    eps: float

    # -- the formulas of one process ----------------------------------------------------------------------------------
    @abstractmethod
    def _alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def _sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def _t_at_lam(self, lam: Tensor) -> Tensor: ...

    @abstractmethod
    def _drift(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def _diffusion_squared(self, t: Tensor) -> Tensor: ...

    def _lam(self, t: Tensor) -> Tensor:
        return self._alpha(t).log() - self._sigma(t).log()

    # -- what everybody calls -----------------------------------------------------------------------------------------
    def alpha(self, t: Value) -> Value:
        """Scale of the data in the marginal at time t."""
        return _on(self._alpha, t)

    def sigma(self, t: Value) -> Value:
        """Standard deviation of the noise in the marginal at time t."""
        return _on(self._sigma, t)

    def lam(self, t: Value) -> Value:
        """Half log-SNR, log(alpha / sigma)."""
        return _on(self._lam, t)

    def rho(self, t: Value) -> Value:
        """sigma / alpha, the noise level of the variance-exploding view (EDM's sigma)."""
        return _on(lambda u: self._sigma(u) / self._alpha(u), t)

    def t_at_lam(self, lam: Value) -> Value:
        """The time at which half the log-SNR is ``lam`` (inverse of :meth:`lam`)."""
        return _on(self._t_at_lam, lam)

    def drift(self, t: Value) -> Value:
        """f(t) = (log alpha)'."""
        return _on(self._drift, t)

    def diffusion_squared(self, t: Value) -> Value:
        """g(t)^2 = (sigma^2)' - 2 f sigma^2 = -2 sigma^2 lam'."""
        return _on(self._diffusion_squared, t)

    def diffusion(self, t: Value) -> Value:
        """g(t)."""
        return _on(lambda u: self._diffusion_squared(u).sqrt(), t)

    def prior_std(self, t: float | None = None) -> float:
        """Standard deviation of the Gaussian from which sampling starts at time t (default T): sigma(t)."""
        return self.sigma(self.T if t is None else t)

    def point(self, t: float) -> Point:
        """The noise level at time t.

        Raises:
            ValueError: t is outside [0, T] or not finite.
        """
        t = float(t)
        if not 0.0 <= t <= self.T:
            raise ValueError(f"t={t} is outside [0, {self.T}], the times of {self!r}")
        return Point(t, self.alpha(t), self.sigma(t))

    def point_at_lam(self, lam: float) -> Point:
        """The noise level at which half the log-SNR is ``lam``."""
        t = self.t_at_lam(lam)
        return Point(t, self.alpha(t), self.sigma(t))

    def marginal(self, x0: Tensor, t: float | Tensor, noise: Tensor) -> Tensor:
        """Noise the data: alpha(t) x0 + sigma(t) noise.

        Args:
            x0: clean samples, (B, ...).
            t: one time, or one a sample, (B,).
            noise: standard normal, of the shape of x0.
        """
        if isinstance(t, Tensor):
            per_sample = (-1,) + (1,) * (x0.ndim - 1)
            alpha, sigma = (f(t).to(x0).reshape(per_sample) for f in (self.alpha, self.sigma))
            return alpha * x0 + sigma * noise
        return self.alpha(t) * x0 + self.sigma(t) * noise

    def config(self) -> dict[str, Any]:
        """A JSON-ready description; :func:`sde_from_config` builds the process again."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]


def _on(formula: Callable[[Tensor], Tensor], t: Value) -> Value:
    if isinstance(t, Tensor):
        return formula(t.to(torch.float64))
    return formula(torch.tensor(float(t), dtype=torch.float64)).item()  # type: ignore[return-value]


def check_positive(owner: object, **values: float) -> None:
    """Raise ValueError for an option that is not positive and finite."""
    for name, value in values.items():
        if not (value > 0.0 and math.isfinite(value)):
            raise ValueError(f"{type(owner).__name__}: {name} must be positive and finite, got {value}")


def check_increasing(owner: object, low: str, a: float, high: str, b: float) -> None:
    """Raise ValueError unless option ``low`` is below option ``high``."""
    if not a < b:
        raise ValueError(f"{type(owner).__name__}: {low} must be below {high}, got {low}={a}, {high}={b}")
