r"""Samplers for distilled networks: each prediction is taken for the end of the flow, and noised again.

A consistency function maps a point of the probability flow to the end of its curve: a sample, not the mean of the
possible ones. With the exact one every step of :class:`LCM` has the law of the process. An ordinary denoiser in its
place is another matter, and more steps do not mend it: for data :math:`N(\mu, v)` these samplers forget the start
within the steps near one noise level, and as the steps become many, :math:`x/\alpha` at :math:`\rho = \sigma/\alpha`
tends to the variance

.. math:: \frac{(1+\kappa)(v+\rho^2)^2}{2v+(1+\kappa)\rho^2} \to \frac{1+\kappa}{2} v \quad (\rho \to 0)

in place of :math:`v+\rho^2`, with :math:`\kappa` the kept fraction of the noise: half the variance for LCM. Hence
order 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.rows import Row, Solver, Span, Step
from scoresde.solvers.cooling import check_noise
from scoresde.solvers.ddim import renewing_row


@dataclass(frozen=True)
class LCM(Solver):
    r"""Multistep consistency sampling (Song et al. 2023, arXiv:2303.01469, Algorithm 1; Luo et al. 2023,
    arXiv:2310.04378, Algorithm 3): :math:`x_t = \alpha_t(D + \sqrt{\rho_t^2-\rho_{min}^2}\,z)`.

    With :math:`\rho_{min} = 0` it is DDIM that keeps nothing of the noise; a step into sigma = 0 ends with D. It is for
    networks distilled into consistency functions (1 to 8 steps), with a grid of the times that they were trained at.
    With an ordinary denoiser it does not converge: see :mod:`scoresde.solvers.consistency`.

    diffusers' LCMScheduler also mixes the state into the prediction, :math:`c_{skip} x + c_{out} D` with
    :math:`c_{skip} = s^2/(\tau^2+s^2)`, :math:`c_{out} = \tau/\sqrt{\tau^2+s^2}`, s = 0.5 and :math:`\tau` ten times
    the integer time. That parametrises the network (as the identity at time 0) and belongs into the denoiser; from
    time 5 of 1000 on :math:`c_{skip}` is below 1e-4.

    Args:
        rho_min: the noise level sigma/alpha at which the network's consistency function ends: 0, or EDM's 0.002 for the
            consistency models of Song et al. (diffusers: ``sigma_min`` of CMStochasticIterativeScheduler).
        s_noise: factor on the noise that is added.
    """

    rho_min: float = 0.0
    s_noise: float = 1.0

    order: ClassVar[int] = 0
    kind: ClassVar[str] = "x0"  # type: ignore[misc]
    memory: ClassVar[int] = 0  # type: ignore[misc]
    noises: ClassVar[int] = 1  # type: ignore[misc]
    paper: ClassVar[str] = "Song et al. 2023, arXiv:2303.01469; Luo et al. 2023, arXiv:2310.04378"
    starts_at_zero_snr: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_noise(0.0, self.s_noise)
        if not (self.rho_min >= 0.0 and math.isfinite(self.rho_min)):
            raise ValueError(f"rho_min must be finite and at least 0, got {self.rho_min}")

    @property
    def name(self) -> str:
        """lcm, or consistency if rho_min > 0."""
        return "consistency" if self.rho_min else "lcm"

    def noise_spans(self, step: Step) -> Sequence[Span | None]:
        """None: there is no stochastic equation that more steps would approach."""
        return ()

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        missing = math.sqrt(max(0.0, 1 - (self.rho_min / step.t.rho) ** 2)) if self.rho_min else 1.0
        return [renewing_row(step.s, step.t, 0.0, self.s_noise * missing)]


@dataclass(frozen=True)
class TCD(Solver):
    r"""Strategic stochastic sampling of trajectory consistency distillation (Zheng et al. 2024, arXiv:2402.19159,
    Algorithm 4).

    A step from s to t goes along the flow to the time :math:`(1-\gamma)t`, further than asked for, and comes back to t
    by the process's own noise. It is DDIM that keeps the fraction :math:`\rho_{(1-\gamma)t}/\rho_t` of the noise:
    gamma = 0 is DDIM, gamma = 1 is LCM. With an ordinary denoiser and gamma > 0 it does not converge: see
    :mod:`scoresde.solvers.consistency`.

    diffusers rounds :math:`(1-\gamma)t` down to a time of its table, whose first has some noise left, so that gamma = 1
    is not quite LCM there.

    Args:
        gamma: from 0 to 1 (diffusers: ``eta``).
        s_noise: factor on the noise that is added.
    """

    gamma: float = 0.3
    s_noise: float = 1.0

    kind: ClassVar[str] = "x0"  # type: ignore[misc]
    memory: ClassVar[int] = 0  # type: ignore[misc]
    name: ClassVar[str] = "tcd"  # type: ignore[misc]
    paper: ClassVar[str] = "Zheng et al. 2024, arXiv:2402.19159"
    starts_at_zero_snr: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_noise(0.0, self.s_noise)
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma must be within [0, 1], got {self.gamma}")

    @property
    def order(self) -> int:  # type: ignore[override]
        """0, and 1 without noise."""
        return 0 if self.gamma else 1

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One if gamma > 0."""
        return int(self.gamma > 0.0)

    def noise_spans(self, step: Step) -> Sequence[Span | None]:
        """None: there is no stochastic equation that more steps would approach."""
        return ()

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        kept = step.sde.rho((1 - self.gamma) * step.t.t) / step.t.rho if self.gamma else 1.0
        return [renewing_row(step.s, step.t, kept, self.s_noise * math.sqrt((1 - kept) * (1 + kept)))]
