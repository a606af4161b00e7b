"""From the schedule that a case names to a process of this library, and from its recorded noise levels to times."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import scoresde as ss
from scoresde.sde import SDE
from tests.golden.store import Case


class NotYet(Exception):
    """The library has no solver, option or process for this case; the message is the reason."""


NUMBER = r"([-+.\de]*\d)"
CLIPPED_LAM = -5.1  # where dpm_solver and its descendants cut the tail of a table of betas


def _vp(case: Case, low: str, high: str) -> SDE:
    return ss.VP(float(low), float(high))


def _table(case: Case, betas: Tensor) -> SDE:
    if case.source in ("dpm_solver", "unipc", "sa_solver"):
        alphas2 = torch.cumprod(1 - betas, 0)
        lam = 0.5 * (alphas2.log() - torch.log1p(-alphas2))
        betas = betas[lam >= CLIPPED_LAM]
    return ss.DiscreteVP.from_betas(betas)


def _linspace(case: Case, first: str, last: str, n: str) -> SDE:
    return _table(case, torch.linspace(float(first), float(last), int(n), dtype=torch.float64))


def _scaled_linspace(case: Case, first: str, last: str, n: str) -> SDE:
    root = torch.linspace(math.sqrt(float(first)), math.sqrt(float(last)), int(n), dtype=torch.float64)
    return _table(case, root**2)


def _cosine(case: Case) -> SDE:
    return _table(case, torch.from_numpy(case.folder.array("targets.npz:schedules/cosine_betas")))


# What a schedule is called -> the process, from the numbers in its name.
SCHEDULES: tuple[tuple[str, Callable[..., SDE]], ...] = (
    (rf"subVPSDE\(beta_min={NUMBER},beta_max={NUMBER}", lambda case, low, high: ss.SubVP(float(low), float(high))),
    (rf"VPSDE\(beta_min={NUMBER},beta_max={NUMBER}", _vp),
    (rf"VESDE\(sigma_min={NUMBER},sigma_max={NUMBER}", lambda case, low, high: ss.VE(float(low), float(high))),
    (rf"VP linear(?: continuous)? \({NUMBER},{NUMBER}\)", _vp),
    (rf"VP linear continuous: log alpha=-t\^2\({NUMBER}-{NUMBER}\)/4", lambda case, high, low: _vp(case, low, high)),
    (rf"VP discrete, betas=linspace\(sqrt\({NUMBER}\),sqrt\({NUMBER}\),{NUMBER}\)\^2", _scaled_linspace),
    (rf"VP discrete, betas=linspace\({NUMBER},{NUMBER},{NUMBER}\)", _linspace),
    (rf"VP discrete scaled_linear {NUMBER}\.\.{NUMBER}, N={NUMBER}", _scaled_linspace),
    (rf"VP discrete linear {NUMBER}\.\.{NUMBER}, N={NUMBER}", _linspace),
    (r"VP discrete.*cosine", _cosine),
    (r"rectified flow", lambda case: ss.RectifiedFlow()),
    (r"(?:VE|EDM)\b", lambda case: _edm(case)),
)


def _edm(case: Case) -> SDE:
    levels = [sigma / alpha for _, alpha, sigma in case.grid]
    return ss.EDM(sigma_min=min(v for v in levels if v > 0), sigma_max=max(levels))


def process_of(case: Case) -> SDE:
    """The process in whose variables the states of the case are recorded."""
    own_ve = "VESDE" in case.schedule
    if all(alpha == 1.0 for _, alpha, _ in case.grid) and not own_ve:
        return _edm(case)  # unscaled states x/alpha, whatever process the network was trained on
    return named_process(case)


def named_process(case: Case) -> SDE:
    """The process that the schedule names."""
    for pattern, make in SCHEDULES:
        if found := re.match(pattern, case.schedule):
            return make(case, *found.groups())
    raise NotYet(f"schedule {case.schedule!r}")


def time_at(sde: SDE, alpha: float, sigma: float) -> float:
    """Our time of a recorded noise level: that of its ratio sigma / alpha."""
    if sigma == 0.0:
        return 0.0
    if alpha == 0.0:
        return sde.T
    return min(sde.t_at_lam(math.log(alpha / sigma)), sde.T)  # min: rounding at the first time


def times_at(sde: SDE, levels: Iterable[Sequence[float]]) -> list[float]:
    """Our times of recorded noise levels (..., alpha, sigma).

    Raises:
        AssertionError: the process does not have these levels, up to a common scale of alpha and sigma.
    """
    times = []
    for *_, alpha, sigma in levels:
        times.append(time_at(sde, alpha, sigma))
        check_level(sde, times[-1], alpha, sigma)
    return times


def check_level(sde: SDE, t: float, alpha: float, sigma: float, rtol: float = 1e-10) -> None:
    """Assert that the process has this noise level at time t, up to a common scale of alpha and sigma."""
    ours = (sde.alpha(t), sde.sigma(t))
    off = ours[0] * sigma - ours[1] * alpha
    assert abs(off) <= rtol * (ours[0] * sigma + ours[1] * alpha), f"{sde!r} at t={t}: {ours}, not {(alpha, sigma)}"


@dataclass(frozen=True)
class Ablation(SDE):
    """The processes of EDM's ablation (Karras et al. 2022, arXiv:2206.00364, Table 1) that this library does not ship.

    rho(t) = sigma/alpha is t ("linear"), sqrt(t) ("ve") or that of VP ("vp"); alpha is 1, or with ``scaled``
    1/sqrt(1 + rho^2).
    """

    rho_of_t: str
    scaled: bool
    beta_d: float = 19.9
    beta_min: float = 0.1
    T: float = 1e6
    eps: float = 1e-6

    name: ClassVar[str] = "edm-ablation"

    def _rho(self, t: Tensor) -> Tensor:
        return {
            "linear": lambda: t,
            "ve": lambda: t.sqrt(),
            "vp": lambda: torch.expm1(0.5 * self.beta_d * t * t + self.beta_min * t).sqrt(),
        }[self.rho_of_t]()

    def _rho_times_slope(self, t: Tensor) -> Tensor:
        """rho rho'."""
        return {
            "linear": lambda: t,
            "ve": lambda: 0.5 * torch.ones_like(t),
            "vp": lambda: 0.5 * (self.beta_d * t + self.beta_min) * (1 + self._rho(t) ** 2),
        }[self.rho_of_t]()

    def _alpha(self, t: Tensor) -> Tensor:
        return (1 + self._rho(t) ** 2).rsqrt() if self.scaled else torch.ones_like(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return self._alpha(t) * self._rho(t)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        rho = torch.exp(-lam)
        return {
            "linear": lambda: rho,
            "ve": lambda: rho**2,
            "vp": lambda: (
                ((self.beta_min**2 + 2 * self.beta_d * torch.log1p(rho**2)).sqrt() - self.beta_min) / self.beta_d
            ),
        }[self.rho_of_t]()

    def _drift(self, t: Tensor) -> Tensor:
        return -self._rho_times_slope(t) / (1 + self._rho(t) ** 2) if self.scaled else torch.zeros_like(t)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return 2 * self._alpha(t) ** 2 * self._rho_times_slope(t)


def vp_through(sigma_min: float, sigma_max: float, eps: float = 1e-3) -> tuple[float, float]:
    """(beta_d, beta_min) of the VP process with rho(1) = sigma_max and rho(eps) = sigma_min, as EDM computes them."""
    low, high = math.log1p(sigma_min**2), math.log1p(sigma_max**2)
    beta_d = 2 * (low / eps - high) / (eps - 1)
    return beta_d, high - 0.5 * beta_d
