"""What every exact target shares: argument checks, shapes, dtypes, bounded memory, and the denoiser made of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scoresde.denoiser import BaseDenoiser
from scoresde.noise import normal
from scoresde.sde import SDE, Point
from scoresde.targets.flow import integrate

TINY = 1e-200  # a variance that stands for 0: its inverse is finite, and a softmax over it still picks the nearest
_CHUNK = 1 << 22  # numbers in the largest temporary (32 MiB of float64)
STREAM = 2**32 - 1  # noise streams of the targets, counted down: far from those of initial states and plans


class Target(ABC):
    """A distribution of x_0 with exact noised marginals.

    A subclass works on flat float64 batches (B, d) with alpha and sigma of shape (B, 1) or (1, 1). This class checks
    the arguments, flattens, splits the batch so that temporaries stay small, and goes back to the caller's shape and
    dtype.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one event."""

    @property
    def dim(self) -> int:
        """Number of components of one event, d."""
        return math.prod(self.shape)

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the parameters are, and batches must be."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Target:
        """The same target with its parameters on `device`."""

    @abstractmethod
    def moments(self) -> tuple[Tensor, Tensor]:
        """Exact mean (d,) and covariance (d, d) of x_0, in float64."""

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """(n, *shape) independent draws of x_0 in float64; draw i is a function of (seed, i) only.

        Raises ValueError if n is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be a positive integer, got {n!r}")
        return self._sample(n, seed).reshape(n, *self.shape)

    def x0(self, x: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
        """The denoiser E[x_0 | alpha x_0 + sigma eps = x].

        Args:
            x: floating-point batch (B, *shape).
            alpha: scale of the data, >= 0; a number, or one a sample, (B,).
            sigma: standard deviation of the noise, likewise. At 0 the limit is given: for data without density, the
                nearest point of its support.

        Returns:
            (B, *shape), in the dtype of x.

        Raises:
            TypeError, ValueError: x has another kind, shape or device; alpha or sigma is negative or not finite, or
                both are 0.
        """
        return self._apply(self._denoised, x, alpha, sigma, self.shape)

    def score(self, x: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
        """Gradient of `log_prob` with respect to x, (B, *shape). As `x0`, and ValueError where there is no density."""
        self._need_density("score", sigma)
        return self._apply(lambda *level: self._posterior(*level)[1], x, alpha, sigma, self.shape)

    def log_prob(self, x: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
        """Log density (nats) of the marginal at this noise level, (B,). As `score`."""
        self._need_density("log_prob", sigma)
        return self._apply(self._log_prob, x, alpha, sigma, ())

    def flow(self, x: Tensor, start: Point, end: Point, tol: float = 1e-12) -> Tensor:
        """Where the probability-flow ODE carries x from one noise level to another, in either direction.

        Args:
            x: (B, *shape), states at `start`.
            start: a noise level (its alpha and sigma count, not its t), also pure noise, alpha = 0.
            end: likewise, also the data, sigma = 0.
            tol: error wanted, in units of the data's spread; a closed form ignores it.

        Returns:
            (B, *shape), in the dtype of x.

        Raises:
            TypeError, ValueError: as `score` at `start`; x is not finite; tol is not in (0, 1).
            RuntimeError: the tolerance cannot be reached.
        """
        self._need_density("flow: start", start.sigma)
        if not 0.0 < tol < 1.0:
            raise ValueError(f"tol must be in (0, 1), got {tol}")
        _noise_level(end.alpha, end.sigma, x)
        self._check(x)
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"x has {int((~torch.isfinite(x)).sum())} values that are not finite")
        return self._apply(lambda flat, *_: self._flow(flat, start, end, tol), x, start.alpha, start.sigma, self.shape)

    def denoiser(self, sde: SDE) -> ExactDenoiser:
        """This target as a denoiser of the process `sde`: what a perfectly trained network would be."""
        return ExactDenoiser(self, sde)

    # -- what a target states: flat float64 batches (B, d), noise levels (B, 1) or (1, 1) ------------------------------
    @property
    @abstractmethod
    def singular(self) -> bool:
        """Whether x_0 itself has no density."""

    @property
    @abstractmethod
    def _row_cost(self) -> int:
        """Numbers in the largest temporary for each row of the batch."""

    @abstractmethod
    def _sample(self, n: int, seed: int) -> Tensor: ...

    @abstractmethod
    def _posterior(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(denoiser, score), both (B, d)."""

    def _denoised(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The denoiser alone, (B, d), for a target that gets it with less work."""
        return self._posterior(x, alpha, sigma)[0]

    @abstractmethod
    def _log_prob(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """(B, 1)."""

    @abstractmethod
    def _centre(self) -> tuple[Tensor, float]:
        """Mean (d,) and spread (root-mean-square deviation of a component) of x_0."""

    def _flow(self, x: Tensor, start: Point, end: Point, tol: float) -> Tensor:
        mean, spread = self._centre()
        with torch.no_grad():
            return integrate(self._posterior, mean, spread or 1.0, x, start, end, tol)

    def _normal(self, n: int, size: int, seed: int, draw: int) -> Tensor:
        """(n, size) normals for `_sample`; `draw` counts the separate draws it makes."""
        return normal((n, size), seed, stream=STREAM - draw, dtype=torch.float64, device=self.device)

    # -- checks and shapes --------------------------------------------------------------------------------------------
    def _need_density(self, what: str, sigma: float | Tensor) -> None:
        if self.singular and bool((torch.as_tensor(sigma) == 0).any()):
            raise ValueError(f"{what} has sigma = 0, where this {type(self).__name__} has no density; use sigma > 0")

    def _check(self, x: Tensor) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"x must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
        if x.ndim != len(self.shape) + 1 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x must have shape (B, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        if x.device != self.device:
            raise ValueError(f"x is on {x.device} and the target on {self.device}; use target.to({str(x.device)!r})")

    def _apply(
        self,
        rule: Callable[[Tensor, Tensor, Tensor], Tensor],
        x: Tensor,
        alpha: float | Tensor,
        sigma: float | Tensor,
        event: tuple[int, ...],
    ) -> Tensor:
        self._check(x)
        a, s = _noise_level(alpha, sigma, x)
        flat, rows = x.reshape(len(x), -1).double(), max(1, _CHUNK // self._row_cost)
        if len(x) > rows:
            a, s = (v.expand(len(x), 1) for v in (a, s))
            out = torch.cat([rule(*part) for part in zip(flat.split(rows), a.split(rows), s.split(rows), strict=True)])
        else:
            out = rule(flat, a, s)
        return out.reshape(len(x), *event).to(x.dtype)


class ExactDenoiser(BaseDenoiser):
    """A target's exact denoiser under a process: `denoiser(x, t) -> E[x_0 | x_t = x]`."""

    def __init__(self, target: Target, sde: SDE) -> None:
        super().__init__()
        self.target = target
        self.sde = sde

    def __call__(self, x: Tensor, t: float | Tensor, **cond: object) -> Tensor:
        """E[x_0 | x_t = x] for x (B, *shape) and one time or (B,) times. Raises TypeError if given conditions."""
        if cond:
            raise TypeError(f"an exact denoiser takes no conditions, got {', '.join(sorted(cond))}")
        when: Any = t  # SDE's methods take either kind and give the same kind
        return self.target.x0(x, self.sde.alpha(when), self.sde.sigma(when))


def _noise_level(alpha: float | Tensor, sigma: float | Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma as float64 of shape (1, 1) or (B, 1)."""
    a, s = (_column(name, given, x) for name, given in (("alpha", alpha), ("sigma", sigma)))
    nothing = (a + s == 0).any() if isinstance(alpha, Tensor) or isinstance(sigma, Tensor) else alpha == sigma == 0
    if bool(nothing):
        raise ValueError("alpha and sigma are both 0, so that x carries nothing; one of them must be positive")
    return a, s


def _column(name: str, given: float | Tensor, x: Tensor) -> Tensor:
    if not isinstance(given, Tensor):  # checked on the host: no synchronisation with the device
        if not (math.isfinite(given) and given >= 0):
            raise ValueError(f"{name} must be finite and >= 0, got {given}")
        return torch.full((1, 1), given, dtype=torch.float64, device=x.device)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != len(x)):
        raise ValueError(f"{name} must be a number or have shape ({len(x)},), got {tuple(given.shape)}")
    if not bool((torch.isfinite(given) & (given >= 0)).all()):
        raise ValueError(f"{name} must be finite and >= 0, got {given}")
    return given.to(x.device, torch.float64).reshape(-1, 1)


def parameter(value: object, name: str) -> Tensor:
    """A private float64 copy of a target's parameter. Raises ValueError if it is not finite."""
    out = torch.as_tensor(value, dtype=torch.float64).detach().clone()
    if not bool(torch.isfinite(out).all()):
        raise ValueError(f"{name} has {int((~torch.isfinite(out)).sum())} values that are not finite")
    return out
