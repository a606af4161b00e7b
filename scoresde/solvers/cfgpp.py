"""CFG++: any solver of a guided network, with the noise taken from the unconditional prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Row, Solver, Span, Step
from scoresde.solvers.ddim import DDIM
from scoresde.solvers.wrapper import Wrapper

# The weight of the newest prediction, as weights of the guided and the unconditional one.
NEWEST = {"guided": lambda w: (w, 0.0), "unconditional": lambda w: (0.0, w)}


@dataclass(frozen=True)
class CFGpp(Wrapper):
    r"""CFG++ (Chung et al. 2024, arXiv:2406.08070, Algorithm 2) around any solver in data prediction.

    Classifier-free guidance extrapolates from the unconditional prediction U to the guided one D. DDIM uses D for both
    of its parts, :math:`x_t = \alpha_t D + \sigma_t (x_s - \alpha_s D)/\sigma_s`; CFG++ takes the noise from U:
    :math:`x_t = \alpha_t D + \sigma_t (x_s - \alpha_s U)/\sigma_s`. That is DDIM from the state
    :math:`x_s + \alpha_s (D - U)`, and in this form it goes with every solver: the state at the start of each step is
    shifted, and a multistep solver extrapolates from D at s and U before (as ComfyUI's "cfg_pp" samplers do; the paper
    has DDIM only). Without guidance U = D, and this is the inner solver; its orders are meant so. With guidance the
    shifts add up, and what is reached depends on the number of steps: there is no limit to converge to.

    The guidance scale is that of the denoiser, which must give both predictions (``scoresde.guidance``). The paper's
    :math:`\lambda \in [0, 1]` is small: 0.6 there does what 7.5 does in ordinary guidance.

    Args:
        inner: a solver in data prediction: "ddim" (with eta, ancestral), "dpmpp-2m", "dpmpp-2s", "adams-2", ....
        newest: what a multistep solver takes at s where it extrapolates: "guided", or "unconditional" as ComfyUI's
            res_multistep_cfg_pp does.
    """

    inner: Solver = field(default_factory=DDIM)
    newest: str = "guided"

    pairs: ClassVar[bool] = True
    paper: ClassVar[str] = "Chung et al. 2024, arXiv:2406.08070, Algorithm 2"

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Solver) or self.inner.kind != "x0" or self.inner.pairs:
            raise ValueError(f'inner must be a solver in data prediction (kind "x0"), got {self.inner!r}')
        choose(self.newest, NEWEST, "newest")
        if self._multistep and (self.inner.evaluations > 1 or self.inner.further_evaluations):
            raise ValueError(f"inner must keep past predictions or have inner stages, not both; got {self.inner!r}")

    @property
    def _multistep(self) -> bool:
        return self.inner.memory >= self.inner.evaluations

    @property
    def name(self) -> str:
        """For example "dpmpp-2m-cfgpp"."""
        return f"{self.inner.name}-cfgpp" + ("-unconditional" if self.newest == "unconditional" else "")

    @property
    def noises(self) -> int:  # type: ignore[override]
        """Those of the inner solver."""
        return self.inner.noises

    @property
    def memory(self) -> int:  # type: ignore[override]
        """That of the inner solver; twice that for a multistep solver, which keeps pairs."""
        return self.inner.memory * (1 + self._multistep)

    def noise_spans(self, step: Step) -> Sequence[Span | None]:
        """Those of the inner solver."""
        return self.inner.noise_spans(step)

    def rows(self, step: Step) -> Sequence[Row]:
        """The rows of the inner solver, of which the first starts from the shifted state."""
        first, *later = self.inner.rows(replace(step, past=step.past[::2]))

        def shifted(m: Mix) -> Mix:
            (w, *past), shift = m.d or (0.0,), m.x * step.s.alpha
            on_guided, on_unconditional = NEWEST[self.newest if past else "guided"](w)
            past = [c for w in past for c in (0.0, w)]
            return m._replace(d=(on_guided + shift, on_unconditional - shift, *past))

        anchor = None if first.anchor is None else shifted(first.anchor)
        return [first._replace(x=shifted(first.x), anchor=anchor, pair=True), *later]
