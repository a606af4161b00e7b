"""Heun++: a step that also looks at the slope where the next step ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.rows import Row, Solver, Step
from scoresde.solvers.runge_kutta import TABLEAUX, Tableau, tableau_rows


@dataclass(frozen=True)
class OfficialHeunPP(Solver):
    r"""Heun++ as published (Carzit 2023, github.com/Carzit/sd-webui-samplers-scheduler; no paper) and as in ComfyUI.

    With :math:`\rho = \sigma/\alpha`, a step from :math:`\rho_0` to :math:`\rho_1` takes a mean of three slopes, at
    :math:`\rho_0`, :math:`\rho_1` and the end of the next step, :math:`\rho_2`, the latter two reached by steps of
    Euler, and with the weights :math:`\rho_1/(3\rho_T)` and :math:`\rho_2/(3\rho_T)` where the plan begins at
    :math:`\rho_T`. The step before the last is a mean of two slopes, with :math:`\rho_1/(2\rho_T)`, and the last is
    Euler's. In a step of order 2 the weights of the later slopes balance at the middle of the step, as Heun's 1/2 and
    1/2 do. These fade with the noise instead, and so most steps are nearly Euler's, at three times the cost: order 1.

    There is no corrected variant. The weights that integrate a parabola through these three levels, with a third point
    reached accordingly, do converge with order 3 (measured), but they lean on a point outside of the step: on EDM's
    grid of 6 steps the error is 60 times that of Kutta's method, which has the same order and cost and stays inside.
    """

    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 3  # type: ignore[misc]
    further_evaluations: ClassVar[int] = -3  # type: ignore[misc]  # the last step has 1, the one before it 2
    kind: ClassVar[str] = "epsilon"  # type: ignore[misc]
    memory: ClassVar[int] = 2  # type: ignore[misc]
    paper: ClassVar[str] = "Carzit 2023, github.com/Carzit/sd-webui-samplers-scheduler"

    @property
    def name(self) -> str:
        """heunpp2-official."""
        return "heunpp2-official"

    def rows(self, step: Step) -> Sequence[Row]:
        """Rows of a Runge–Kutta step whose coefficients depend on the next step."""
        return tableau_rows(self.kind, self._tableau(step), step)

    def _tableau(self, step: Step) -> Tableau:
        rho_begin = step.route[0][0].rho
        rho, *beyond = (t.rho for _, t in step.route[step.index : step.index + 3])  # where this step and the next end
        if not beyond:
            return TABLEAUX["euler"]
        if len(beyond) == 1:
            w = rho / (2 * rho_begin)
            return Tableau(1, ((), (1.0,)), (1 - w, w))
        w1, w2 = rho / (3 * rho_begin), beyond[0] / (3 * rho_begin)
        ratio = (beyond[0] - rho) / (rho - step.s.rho)
        return Tableau(1, ((), (1.0,), (1.0, ratio)), (1 - w1 - w2, w1, w2))
