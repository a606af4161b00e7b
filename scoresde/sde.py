r"""Noising processes: :math:`dx = f(t)\,x\,dt + g(t)\,dw` with marginals
:math:`x_t = \alpha_t x_0 + \sigma_t \epsilon`.

A process is one small frozen dataclass that states its formulas on float64 tensors; the public methods take a float and
give a float, or a tensor and give a float64 tensor of its shape. Times run from ``sde.T`` (noise) down to ``sde.eps``
or exactly 0; **t = 0 is always the data**: :math:`\alpha = 1, \sigma = 0`.

To add a process: subclass :class:`SDE`, state the six formulas, add a row to :data:`SDES`, add a row to the table in
``tests/test_sde.py``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from scoresde.errors import choose

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


def _positive(owner: object, **values: float) -> None:
    for name, value in values.items():
        if not (value > 0.0 and math.isfinite(value)):
            raise ValueError(f"{type(owner).__name__}: {name} must be positive and finite, got {value}")


def _increasing(owner: object, low: str, a: float, high: str, b: float) -> None:
    if not a < b:
        raise ValueError(f"{type(owner).__name__}: {low} must be below {high}, got {low}={a}, {high}={b}")


class _LogAlpha(SDE):
    """A process stated through log alpha."""

    @abstractmethod
    def _log_alpha(self, t: Tensor) -> Tensor: ...

    def _alpha(self, t: Tensor) -> Tensor:
        return self._log_alpha(t).exp()

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(2 * self._log_alpha(t)).abs().sqrt()  # variance preserving, without cancellation at small t

    def _lam(self, t: Tensor) -> Tensor:
        return self._log_alpha(t) - self._sigma(t).log()

    def prior_std(self, t: float | None = None) -> float:
        """1: a variance-preserving process ends in N(0, I)."""
        return 1.0


def _minus_log_alpha_vp(lam: Tensor) -> Tensor:
    """-log alpha at half log-SNR lam, when alpha^2 + sigma^2 = 1: softplus(-2 lam) / 2."""
    return 0.5 * torch.logaddexp(-2 * lam, torch.zeros_like(lam))


@dataclass(frozen=True)
class _LinearBeta(_LogAlpha):
    beta_min: float = 0.1
    beta_max: float = 20.0
    eps: float = 1e-3
    T: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, beta_min=self.beta_min, beta_max=self.beta_max, eps=self.eps, T=self.T)
        _increasing(self, "beta_min", self.beta_min, "beta_max", self.beta_max)
        _increasing(self, "eps", self.eps, "T", self.T)

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -0.25 * t * t * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def _drift(self, t: Tensor) -> Tensor:
        return -0.5 * self._beta(t)

    def _t_at_log_alpha(self, minus_log_alpha: Tensor) -> Tensor:
        # The root of slope t^2 / 4 + beta_min t / 2 = c, in the form that is stable as c -> 0.
        root = (self.beta_min**2 + 4 * (self.beta_max - self.beta_min) * minus_log_alpha).sqrt()
        return 4 * minus_log_alpha / (self.beta_min + root)


@dataclass(frozen=True)
class VP(_LinearBeta):
    r"""Variance-preserving SDE with linear :math:`\beta` (Song et al. 2021, arXiv:2011.13456, eq. 11).

    :math:`\log\alpha = -t^2(\beta_{max}-\beta_{min})/4 - t\beta_{min}/2`, :math:`\sigma^2 = 1-\alpha^2`. This is the
    continuous form of DDPM (Ho et al. 2020, arXiv:2006.11239).
    """

    name: ClassVar[str] = "vp"

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        return self._t_at_log_alpha(_minus_log_alpha_vp(lam))

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return self._beta(t)


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    r"""Sub-variance-preserving SDE (Song et al. 2021, arXiv:2011.13456, eq. 12): VP's alpha,
    :math:`\sigma = 1-\alpha^2`."""

    name: ClassVar[str] = "subvp"

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(2 * self._log_alpha(t)).abs()

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        # alpha^2 + alpha / exp(lam) = 1 has the root alpha = exp(-asinh(exp(-lam) / 2)).
        return self._t_at_log_alpha(torch.asinh(0.5 * torch.exp(-lam)))

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return self._beta(t) * -torch.expm1(4 * self._log_alpha(t))


@dataclass(frozen=True)
class CosineVP(_LogAlpha):
    r"""Variance-preserving SDE with the cosine schedule (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17).

    :math:`\alpha = \cos(a + u)/\cos a` with :math:`u = \frac{\pi}{2}\frac{t}{1+s}`,
    :math:`a = \frac{\pi}{2}\frac{s}{1+s}`. alpha reaches 0 at t = 1, where f and g are infinite; T = 0.9946 stops short
    of it, as DPM-Solver does (Lu et al. 2022, arXiv:2206.00927).
    """

    name: ClassVar[str] = "cosine"
    s: float = 0.008
    eps: float = 1e-3
    T: float = 0.9946

    def __post_init__(self) -> None:
        _positive(self, s=self.s, eps=self.eps, T=self.T)
        _increasing(self, "eps", self.eps, "T", self.T)
        if self.T >= 1.0:
            raise ValueError(f"CosineVP: T must be below 1 (alpha is 0 and the drift infinite there), got {self.T}")

    @property
    def _a(self) -> float:
        return 0.5 * math.pi * self.s / (1 + self.s)

    def _u(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi / (1 + self.s) * t

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.cos(self._a + self._u(t)) / math.cos(self._a)

    def _log_alpha(self, t: Tensor) -> Tensor:
        return self._alpha(t).log()

    def _sigma(self, t: Tensor) -> Tensor:
        # cos^2 a - cos^2(a + u) = sin(2a + u) sin(u): no cancellation as t -> 0.
        u = self._u(t)
        return (torch.sin(2 * self._a + u) * torch.sin(u)).sqrt() / math.cos(self._a)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        # sin u and cos u from the addition theorems, written without differences of nearly equal numbers.
        sin_a, cos_a = math.sin(self._a), math.cos(self._a)
        alpha2, sigma2 = torch.sigmoid(2 * lam), torch.sigmoid(-2 * lam)
        alpha = alpha2.sqrt()
        sin_sum = (sin_a**2 + sigma2 * cos_a**2).sqrt()  # sin(a + u)
        sin_u = cos_a * sigma2 / (sin_sum + alpha * sin_a)
        cos_u = alpha * cos_a**2 + sin_sum * sin_a
        return torch.atan2(sin_u, cos_u) * (1 + self.s) / (0.5 * math.pi)

    def _drift(self, t: Tensor) -> Tensor:
        return -0.5 * math.pi / (1 + self.s) * torch.tan(self._a + self._u(t))

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return -2 * self._drift(t)


class _VarianceExploding(SDE):
    """alpha = 1."""

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _lam(self, t: Tensor) -> Tensor:
        return -self._sigma(t).log()

    def _drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)


@dataclass(frozen=True)
class VE(_VarianceExploding):
    r"""Variance-exploding SDE (Song et al. 2021, arXiv:2011.13456, eq. 9):
    :math:`\sigma = \sigma_{min}(\sigma_{max}/\sigma_{min})^t`.

    The formula gives sigma_min, not 0, as t -> 0; by the convention of this library t = 0 itself is the data, so a
    step that ends at exactly 0 removes the last sigma_min of noise.
    """

    name: ClassVar[str] = "ve"
    sigma_min: float = 0.01
    sigma_max: float = 50.0
    eps: float = 1e-5
    T: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, sigma_min=self.sigma_min, sigma_max=self.sigma_max, eps=self.eps, T=self.T)
        _increasing(self, "sigma_min", self.sigma_min, "sigma_max", self.sigma_max)
        _increasing(self, "eps", self.eps, "T", self.T)

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.where(t == 0, 0.0, self.sigma_min * torch.exp(self._rate * t))

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        t = -(lam + math.log(self.sigma_min)) / self._rate
        return torch.where(lam == math.inf, 0.0, t)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return 2 * self._rate * self._sigma(t) ** 2


@dataclass(frozen=True)
class EDM(_VarianceExploding):
    r"""The process of EDM (Karras et al. 2022, arXiv:2206.00364, Table 1): :math:`\alpha = 1, \sigma = t`, time is the
    noise."""

    name: ClassVar[str] = "edm"
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _positive(self, sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        _increasing(self, "sigma_min", self.sigma_min, "sigma_max", self.sigma_max)

    @property
    def T(self) -> float:  # type: ignore[override]
        """sigma_max: time is the noise level."""
        return self.sigma_max

    @property
    def eps(self) -> float:  # type: ignore[override]
        """sigma_min: time is the noise level."""
        return self.sigma_min

    def _sigma(self, t: Tensor) -> Tensor:
        return t

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        return torch.exp(-lam)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return 2 * t


@dataclass(frozen=True)
class RectifiedFlow(SDE):
    r"""Rectified flow / flow matching: :math:`x = (1-\tau)x_0 + \tau\epsilon` (Liu et al. 2022, arXiv:2209.03003).

    :math:`\tau = st/(1+(s-1)t)` with the resolution-dependent shift s of Stable Diffusion 3 (Esser et al. 2024,
    arXiv:2403.03206, eq. 23); s = 1 is the plain flow. alpha(T) = 0: it starts from pure noise.
    """

    name: ClassVar[str] = "flow"
    shift: float = 1.0
    eps: float = 1e-3
    T: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, shift=self.shift, eps=self.eps, T=self.T)
        _increasing(self, "eps", self.eps, "T", self.T)
        if self.T > 1.0:
            raise ValueError(f"RectifiedFlow: T must be at most 1, got {self.T}")

    def _stretch(self, t: Tensor) -> Tensor:
        return 1 + (self.shift - 1) * t

    def _alpha(self, t: Tensor) -> Tensor:
        return (1 - t) / self._stretch(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.shift * t / self._stretch(t)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-(lam + math.log(self.shift)))

    def _drift(self, t: Tensor) -> Tensor:
        return -self.shift / ((1 - t) * self._stretch(t))

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        # -2 sigma^2 lam' with lam' = -1 / (t (1 - t)), one factor t cancelled.
        return 2 * self.shift**2 * t / (self._stretch(t) ** 2 * (1 - t))


@dataclass(frozen=True)
class DiscreteVP(_LogAlpha):
    r"""A trained discrete process (DDPM, Stable Diffusion), from its table of ``alphas_cumprod``, made continuous.

    Entry i of N belongs to t = (i + 1)/N, and :math:`\log\alpha` is linear in t between entries and from 0 at t = 0
    (the interpolation of DPM-Solver, Lu et al. 2022, arXiv:2206.00927, appendix D.5). A table may end in exactly 0
    (zero terminal SNR, Lin et al. 2023, arXiv:2305.08891); in that last cell alpha itself is linear in t.

    Args:
        alphas_cumprod: :math:`\alpha^2` for each of the N steps, strictly decreasing, in (0, 1); the last may be 0.
        eps: the end time; 0 stands for the first entry, 1/N.

    Raises:
        ValueError: fewer than two entries, or not strictly decreasing within [0, 1).
    """

    name: ClassVar[str] = "discrete-vp"
    alphas_cumprod: Sequence[float]
    eps: float = 0.0
    T: float = 1.0

    def __post_init__(self) -> None:
        table = tuple(float(a) for a in self.alphas_cumprod)
        object.__setattr__(self, "alphas_cumprod", table)
        if len(table) < 2:
            raise ValueError(f"DiscreteVP: alphas_cumprod needs at least 2 entries, got {len(table)}")
        for i, (a, b) in enumerate(zip((1.0, *table), table, strict=False)):
            if not (b < a and b >= 0.0 and (b > 0.0 or i == len(table) - 1)):
                raise ValueError(
                    "DiscreteVP: alphas_cumprod must decrease strictly within (0, 1), only the last may be 0; "
                    f"entry {i} is {b} after {a}"
                )
        if self.eps == 0.0:
            object.__setattr__(self, "eps", 1.0 / len(table))
        if self.T != 1.0:
            raise ValueError(f"DiscreteVP: T is 1, the last entry of the table; got {self.T}")
        _increasing(self, "eps", self.eps, "T", self.T)

    def __repr__(self) -> str:
        return f"DiscreteVP(alphas_cumprod=<{len(self.alphas_cumprod)} entries>, eps={self.eps})"

    @classmethod
    def from_betas(cls, betas: Sequence[float] | Tensor, eps: float = 0.0) -> DiscreteVP:
        """From a table of betas: alphas_cumprod = cumprod(1 - beta), in float64."""
        betas = torch.as_tensor(betas, dtype=torch.float64)
        return cls(torch.cumprod(1 - betas, 0).tolist(), eps)

    @property
    def n(self) -> int:
        """Entries of the table."""
        return len(self.alphas_cumprod)

    @cached_property
    def _nodes(self) -> Tensor:
        """log alpha at t = 0, 1/N, ..., 1."""
        table = torch.tensor((1.0, *self.alphas_cumprod), dtype=torch.float64)
        return 0.5 * table.log()

    def _cell(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(position in the cell, log alpha at its ends, whether alpha reaches 0 in it)."""
        u = t * self.n
        i = u.floor().clamp(0, self.n - 1).long()
        left, right = self._nodes[i], self._nodes[i + 1]
        return u - i, left, right, torch.isinf(right)

    def _log_alpha(self, t: Tensor) -> Tensor:
        u, left, right, to_zero = self._cell(t)
        safe = torch.where(to_zero, left, right)
        return left + torch.where(to_zero, torch.log1p(-u), u * (safe - left))

    def _drift(self, t: Tensor) -> Tensor:
        u, left, right, to_zero = self._cell(t)
        safe = torch.where(to_zero, left, right)
        return self.n * torch.where(to_zero, -1 / (1 - u), safe - left)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return -2 * self._drift(t)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        log_alpha = -_minus_log_alpha_vp(lam)
        i = (torch.searchsorted(-self._nodes, -log_alpha) - 1).clamp(0, self.n - 1)
        left, right = self._nodes[i], self._nodes[i + 1]
        to_zero = torch.isinf(right)
        safe = torch.where(to_zero, left - 1, right)
        return (i + torch.where(to_zero, -torch.expm1(log_alpha - left), (log_alpha - left) / (safe - left))) / self.n


SDES: dict[str, type[SDE]] = {c.name: c for c in (VP, CosineVP, SubVP, VE, EDM, RectifiedFlow, DiscreteVP)}


def sde_from_config(config: dict[str, Any]) -> SDE:
    """Build a process from :meth:`SDE.config`.

    Raises:
        ValueError: an unknown name (the nearest are listed) or a bad option.
    """
    options = dict(config)
    return choose(options.pop("name"), SDES, "sde")(**options)
