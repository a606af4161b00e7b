"""Distances between mixtures of Gaussians without samples: what benchmarks/coverage.py holds estimates against."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.targets import Gaussian, GaussianMixture


@dataclass(frozen=True)
class Law:
    """A mixture of Gaussians: weights (K,), means (K, d), covariances (K, d, d)."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    @classmethod
    def of(cls, target: Gaussian | GaussianMixture) -> Law:
        """The law of a target's draws."""
        if isinstance(target, GaussianMixture):
            return cls(target.weights, target.means.flatten(1), target.covariances)
        return cls.gaussian(*target.moments())

    @classmethod
    def gaussian(cls, mean: Tensor, covariance: Tensor) -> Law:
        """One Gaussian."""
        return cls(mean.new_ones(1), mean[None], covariance[None])

    @property
    def dim(self) -> int:
        """Number of components, d."""
        return self.means.shape[1]

    def moved(self, scale: float, shift: float) -> Law:
        """The law of scale X + shift."""
        return Law(self.weights, scale * self.means + shift, scale**2 * self.covariances)

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """E X (d,), E X X^T (d, d) and E X_i X_j X_k (d, d, d)."""
        w, m = self.weights, self.means
        second = self.covariances + m[:, :, None] * m[:, None]
        mixed = torch.einsum("k,ki,kjl->ijl", w, m, self.covariances)
        third = torch.einsum("k,ki,kj,kl->ijl", w, m, m, m) + sum(
            mixed.permute(*order) for order in ((0, 1, 2), (1, 0, 2), (1, 2, 0))
        )
        return w @ m, torch.einsum("k,kij->ij", w, second), third

    def cost_of_moving(self, scale: float, shift: float) -> float:
        """E |scale X + shift - X|^2: the squared 2-Wasserstein distance to the moved law, as the map is monotone."""
        first, second, _ = self.moments()
        cost = (scale - 1) ** 2 * second.trace() + 2 * (scale - 1) * shift * first.sum() + self.dim * shift**2
        return float(cost)


def frechet(p: Law, q: Law) -> float:
    """Squared Frechet distance of the two laws' means and covariances."""
    (m, second, _), (n, other, _) = p.moments(), q.moments()
    a, b = second - torch.outer(m, m), other - torch.outer(n, n)
    overlap = torch.linalg.eigvals(a @ b).real.clamp_min(0.0).sqrt().sum()
    return float((m - n).square().sum() + (a + b).trace() - 2 * overlap)


def kid(p: Law, q: Law) -> float:
    """Squared discrepancy of the kernel (a.b/d + 1)^3: it sees the differences of the first three moments."""
    gaps = (float((a - b).square().sum()) for a, b in zip(p.moments(), q.moments(), strict=True))
    return math.fsum(factor * gap / p.dim**k for k, (factor, gap) in enumerate(zip((3, 3, 1), gaps, strict=True), 1))


def energy_distance(p: Law, q: Law) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'|."""
    return 2 * _mean_distance(p, q) - _mean_distance(p, p) - _mean_distance(q, q)


def _mean_distance(p: Law, q: Law) -> float:
    return math.fsum(
        float(a * b) * mean_norm(m - n, s + t)
        for a, m, s in zip(p.weights, p.means, p.covariances, strict=True)
        for b, n, t in zip(q.weights, q.means, q.covariances, strict=True)
    )


def mean_norm(mean: Tensor, covariance: Tensor) -> float:
    """E|z| of z ~ N(mean, covariance): the integral over t of (1 - E exp(-t |z|^2)) t^(-3/2), over 2 sqrt(pi).

    In log t the integrand is analytic and falls off on both sides, so the trapezium rule is exact to rounding.
    """
    values, vectors = torch.linalg.eigh(covariance)
    centre, scale = (mean @ vectors).square(), float(mean.square().sum() + values.sum())
    step = 0.05
    u = torch.arange(-60.0, 60.0, step, dtype=torch.float64) - math.log(scale)
    spread = 1 + 2 * u.exp()[:, None] * values.clamp_min(0)
    log_laplace = -(spread.log() / 2 + u.exp()[:, None] * centre / spread).sum(1)
    return float((-torch.expm1(log_laplace) * (-u / 2).exp()).sum() * step / (2 * math.sqrt(math.pi)))


def sliced_wasserstein(p: Law, q: Law, directions: Tensor) -> float:
    """Mean over directions (P, d) of the squared distance of two projected Gaussians."""
    (m, second, _), (n, other, _) = p.moments(), q.moments()
    spreads = [
        torch.einsum("pi,ij,pj->p", directions, square - torch.outer(mean, mean), directions).sqrt()
        for mean, square in ((m, second), (n, other))
    ]
    return float(((directions @ (m - n)).square() + (spreads[0] - spreads[1]).square()).mean())


def excess_nll(p: Law, q: Law) -> float:
    """E_p[-log q] - E_q[-log q] of two Gaussians, in nats."""
    apart, inverse = p.means[0] - q.means[0], torch.linalg.inv(q.covariances[0])
    return float((inverse * p.covariances[0]).sum() + apart @ inverse @ apart - q.dim) / 2


def mean_in_plane(law: Law, function: Callable[[Tensor], Tensor]) -> Tensor:
    """E function(X) in two dimensions, function mapping (B, 2) to (B, ...): by the trapezium rule."""
    axis = torch.linspace(-12, 12, 401, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    density = GaussianMixture(law.weights, law.means, law.covariances).log_prob(points, 1.0, 0.0).exp()
    return torch.tensordot(density, function(points), dims=1) * float(axis[1] - axis[0]) ** 2


def mean_nearest(x: Tensor, data: Tensor) -> float:
    """Mean distance of rows to the nearest of data."""
    return float(torch.cat([torch.cdist(part, data).amin(1) for part in x.split(4096)]).mean())
