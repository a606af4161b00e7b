"""Reference solutions of the probability-flow ODE.

In y = (x - alpha m)/(c alpha + sigma) with clock tau = sigma/(c alpha + sigma), m and c the mean and the spread of the
data, the ODE of Song et al. 2021 (arXiv:2011.13456, eq. 13) reads

    dy/dtau = eps - (D - m)/c,

whatever the process: bounded, of order one, and finite at pure noise (tau = 1) and at the data (tau = 0). Where a
denoiser is constant (a point mass, or far below the scale of the data) y is linear in tau, so a solution takes few
steps there.

The integrator is Gragg's modified midpoint rule with polynomial extrapolation (Gragg 1965, SIAM J. Numer. Anal. 2(3);
Hairer, Norsett & Wanner, "Solving ordinary differential equations I", II.9): any order from one recurrence, no tableau.
It never evaluates at the end of a step, hence never at sigma = 0, where a data set has no score. Every row of the batch
chooses its own steps, so that its result does not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scoresde.sde import Point

_COLUMNS = 5  # extrapolation columns: order 10. More are no cheaper, and their error estimate is less honest
_ROUNDS = 20_000  # attempted steps
_FLOOR = 1e-15  # the smallest error per step that rounding lets one see, relative to y

Posterior = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def integrate(
    posterior: Posterior, mean: Tensor, scale: float, x: Tensor, start: Point, end: Point, tol: float
) -> Tensor:
    """Carries x (B, d) in float64 from `start` to `end` along the probability flow.

    posterior(x, alpha, sigma) -> (denoiser, score), with alpha and sigma of shape (B, 1). mean (d,) and scale: centre
    and spread of the data; they condition the problem and do not change the solution. tol: error wanted, in units of
    `scale`.

    Raises RuntimeError where the error cannot be brought below `tol` (a non-finite denoiser, or a step too small).
    """

    def slope(y: Tensor, tau: Tensor) -> Tensor:
        alpha = (1 - tau) / scale
        x0, score = posterior(y + alpha * mean, alpha, tau)
        return -tau * score - (x0 - mean) / scale

    tau0, tau1 = (p.sigma / (scale * p.alpha + p.sigma) for p in (start, end))
    y = (x - start.alpha * mean) / (scale * start.alpha + start.sigma)
    if tau0 != tau1 and len(y):
        y = _extrapolated_midpoint(slope, y, tau0, tau1, tol)
    return y * (scale * end.alpha + end.sigma) + end.alpha * mean


def _extrapolated_midpoint(
    slope: Callable[[Tensor, Tensor], Tensor], y: Tensor, t0: float, t1: float, tol: float
) -> Tensor:
    out, rows = y.clone(), torch.arange(len(y), device=y.device)
    t = torch.full((len(y), 1), t0, dtype=y.dtype, device=y.device)
    step = torch.full_like(t, (t1 - t0) / 8)
    for _ in range(_ROUNDS):
        last = (t + step - t1) * (t1 - t0) >= 0
        step = torch.where(last, t1 - t, step)
        delta, error = _one_step(slope, y, t, step)
        allowed = (0.01 * tol + _FLOOR) * (1 + y.abs().amax(1, keepdim=True))
        ratio = (error / allowed).nan_to_num(nan=torch.inf)
        good = ratio <= 1
        if bool((~good & (step.abs() <= 1e-14 * t.abs())).any()):
            break
        y, t = torch.where(good, y + delta, y), torch.where(good, t + step, t)
        step = step * (0.9 * ratio.clamp_min(1e-30) ** (-1 / (2 * _COLUMNS - 1))).clamp(0.15, 4.0)
        done = (good & last)[:, 0]
        if bool(done.any()):
            out[rows[done]] = y[done]
            rows, y, t, step = rows[~done], y[~done], t[~done], step[~done]
            if not len(rows):
                return out
    raise RuntimeError(
        f"flow: no progress for {len(rows)} of {len(out)} points at sigma/(c alpha + sigma) = {float(t[0]):.3e}; "
        f"is the denoiser finite there, and tol = {tol:g} not below what rounding allows?"
    )


def _one_step(slope: Callable[[Tensor, Tensor], Tensor], y: Tensor, t: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Increment over one step for each row, and the size of its error (the last two columns' difference)."""
    first = slope(y, t)
    row: list[Tensor] = []  # Neville's scheme in (step / n)^2, on increments: they round less than states
    for j in range(1, _COLUMNS + 1):
        n, h = 2 * j, step / (2 * j)
        before, now = torch.zeros_like(y), h * first
        for i in range(1, n):
            before, now = now, before + 2 * h * slope(y + now, t + i * h)
        new = [now]
        for k, old in enumerate(row, start=1):
            new.append(new[-1] + (new[-1] - old) / ((j / (j - k)) ** 2 - 1))
        row = new
    return row[-1], (row[-1] - row[-2]).abs().amax(1, keepdim=True)
