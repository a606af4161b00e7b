"""Multistep DPM-Solver and DPM-Solver++: one evaluation a step, derivatives from past predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Row, Step
from scoresde.solvers.cooling import check_noise, noise, sde_step
from scoresde.solvers.exponential import check_orders, order_of_step
from scoresde.solvers.starting import STARTS, Multistep

NAMES = {"x0": "dpmpp-{}m", "epsilon": "dpm-solver-{}m"}
TYPES = {"midpoint": "midpoint", "taylor": "taylor"}


@dataclass(frozen=True)
class MultistepDPM(Multistep):
    r"""DPM-Solver++ 1, 2M, 3M (Lu et al. 2022, arXiv:2211.01095, Algorithm 2), and the same in noise prediction.

    The third-order update that every public library ships gives
    the second difference half the weight that the expansion asks for, and so converges with order 2 only.
    ``official=False`` gives it its full weight and converges with order 3; ``official=True`` reproduces the shipped
    method, which can be a little better at ten steps and fewer.

    Args:
        order: 1 to 3; the number of predictions that a step mixes.
        kind: "x0" is DPM-Solver++, "epsilon" the multistep form of DPM-Solver.
        solver_type: "midpoint" (the paper's; diffusers: "midpoint", dpm-solver: "dpmsolver") or "taylor" (diffusers:
            "heun") for how an order-2 step uses the first difference.
        official: the third-order update as shipped.
        eta: 0 is deterministic; eta > 0 is SDE-DPM-Solver(++) on the reverse SDE with eta times its noise (Lu et al.
            2022, arXiv:2211.01095, appendix A; k-diffusion's eta), whose weak order is 2 at most, since a polynomial
            through past predictions does not follow the path.
        s_noise: factor on the noise that is added (1 is the method; other values are k-diffusion's).
        sign_slip: the third-order update with noise as diffusers ships it, where a constant 1/2 beside the second
            difference has the wrong sign. It adds :math:`-\frac{\alpha_t}{2}` times the change of the last difference
            of predictions, which is noise: on a Gaussian the weak order is 1 and the strong order 1/2. Where the slope
            :math:`g = \alpha\,\partial D/\partial x` of the prediction exceeds 1, as between the modes of a mixture,
            the recursion :math:`r^2 + \frac g2 r - \frac g2 = 0` has a root outside the unit circle and small steps do
            not help: it does not converge there.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. A step into sigma = 0 is
            of order 1 always. dpm-solver's and diffusers' ``lower_order_final`` is (1,) for order 2 and (2, 1) for
            order 3.
        start: "lower" or "runge-kutta", see :class:`scoresde.solvers.starting.Multistep`; the latter costs 2 further
            evaluations at order 3 (two steps of Heun) and none at order 2, and is for eta = 0: with noise the lower
            orders of the start already keep the weak order of 2.
    """

    order: int = 2
    kind: str = "x0"
    solver_type: str = "midpoint"
    official: bool = False
    order_of_last_steps: tuple[int, ...] = ()
    eta: float = 0.0
    s_noise: float = 1.0
    sign_slip: bool = False
    start: str = "lower"

    paper: ClassVar[str] = "Lu et al. 2022, arXiv:2211.01095"

    def __post_init__(self) -> None:
        check_orders(self.order, range(1, 4), self.order_of_last_steps)
        choose(self.kind, NAMES, "kind")
        choose(self.solver_type, TYPES, "solver_type")
        check_noise(self.eta, self.s_noise)
        if self.sign_slip and not (self.order == 3 and self.kind == "x0" and self.eta and self.official):
            raise ValueError("sign_slip: it is in the official order 3 of data prediction with eta > 0 only")
        if self.start != "lower" and (self.eta or self.official):
            raise ValueError(
                f"start={self.start!r} keeps an order that eta > 0 and official=True do not have; "
                f"got eta={self.eta}, official={self.official}"
            )
        self.check_start()

    @property
    def name(self) -> str:
        """For example "dpmpp-2m" or "sde-dpmpp-2m"."""
        sde = "sde-" if self.eta else ""
        if self.order == 1:
            return sde + NAMES[self.kind].format(1).removesuffix("m")
        if self.order == 2:
            return sde + NAMES[self.kind].format(2) + ("-heun" if self.solver_type == "taylor" else "")
        shipped = "-diffusers" if self.sign_slip else "-official" if self.official else ""
        return sde + NAMES[self.kind].format(3) + shipped + STARTS[self.start]

    @property
    def converges(self) -> int:
        """``order``, but 2 for the official third-order update and with noise, and 1 with the sign slip."""
        if self.sign_slip:
            return 1
        return min(2, self.order) if self.official or self.eta else self.order

    @property
    def strong_order(self) -> float:  # type: ignore[override]
        """1; with the sign slip 1/2."""
        return 0.5 if self.sign_slip else 1.0

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One if eta > 0."""
        return int(self.eta > 0.0)

    def multistep(self, step: Step) -> Sequence[Row]:
        """One row: the exact step, with derivatives of the prediction from backward differences."""
        order = min(order_of_step(self.order, self.order_of_last_steps, step.remaining), 1 + len(step.past))
        (a, *integrals), added = sde_step(self.kind, step.s, step.t, order, self.eta)
        z = noise(0, self.s_noise * added)
        return [Row(step.s, self.kind, Mix(x=a, d=WEIGHTS[order](self, step, *integrals), z=z))]

    def _first(self, step: Step, i0: float) -> tuple[float, ...]:
        return (i0,)

    def _second(self, step: Step, i0: float, i1: float) -> tuple[float, ...]:
        h0 = step.s.lam - step.past[0].lam
        slope = i1 / h0 if self.solver_type == "taylor" else i0 * step.h / (2 * h0)
        return (i0 + slope, -slope)

    def _third(self, step: Step, i0: float, i1: float, i2: float) -> tuple[float, ...]:
        h0, h1 = step.s.lam - step.past[0].lam, step.past[0].lam - step.past[1].lam
        # m' = d0 + h0 (d0 - d1) / (h0 + h1) and m'' = 2 (d0 - d1) / (h0 + h1), with d0, d1 the divided differences.
        if self.sign_slip:
            i2 -= step.t.alpha * step.h**2
        curvature = (i1 * h0 + i2 * (1 if self.official else 2)) / (h0 + h1)
        on_d0, on_d1 = (i1 + curvature) / h0, -curvature / h1
        return (i0 + on_d0, on_d1 - on_d0, -on_d1)


WEIGHTS = {1: MultistepDPM._first, 2: MultistepDPM._second, 3: MultistepDPM._third}
