"""Models as k-diffusion calls them, ``model(x, sigma) -> denoised``, and the way to and from a Denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from scoresde.denoiser import BaseDenoiser, Denoiser
from scoresde.errors import choose
from scoresde.sde import EDM, SDE, RectifiedFlow

Answer = tuple[Tensor, Tensor | None]


class Process(NamedTuple):
    """What the sigma of a model means.

    Attributes:
        sde: the process whose time is this sigma, from the smallest positive and the largest sigma of a run.
        lam: half the log signal-to-noise ratio at sigma > 0.
        size: alpha + sigma there.
        level: the sigma at which sigma/alpha is some rho.
    """

    sde: Callable[[float, float], SDE]
    lam: Callable[[float], float]
    size: Callable[[float], float]
    level: Callable[[float], float]


PROCESSES: dict[str, Process] = {
    # x = x0 + sigma noise: k-diffusion's own
    "edm": Process(EDM, lambda s: -math.log(s), lambda s: 1.0 + s, lambda rho: rho),
    # x = (1 - sigma) x0 + sigma noise: rectified flow, ComfyUI's CONST
    "flow": Process(
        lambda low, high: RectifiedFlow(),
        lambda s: math.log1p(-s) - math.log(s) if s < 1.0 else -math.inf,
        lambda s: 1.0,
        lambda rho: rho / (1.0 + rho) if math.isfinite(rho) else 1.0,
    ),
}


class Model:
    """A model of k-diffusion, and what its sigma means.

    A plain callable does wherever a model is asked for, and is taken for one of process "edm"; this class is for
    rectified flows, which stochastic samplers must know of.

    Args:
        function: called as ``function(x, sigma, **extra_args)`` with x (B, ...) and sigma (B,) in the dtype of x; gives
            the denoised sample, or a pair of it and the one without the condition, which only CFG++ samplers use.
        process: "edm", x = x0 + sigma noise; or "flow", x = (1 - sigma) x0 + sigma noise.
        sigma_min, sigma_max: the range of the network, where it is known.

    Raises:
        TypeError: not callable.
        ValueError: an unknown process.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        process: str = "edm",
        sigma_min: float | None = None,
        sigma_max: float | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(
                f"model must be callable as model(x, sigma, **extra_args) -> denoised, got {type(function).__name__}"
            )
        choose(process, PROCESSES, "process")
        self.function, self.process = function, process
        self._range = (sigma_min, sigma_max)

    @property
    def sigma_min(self) -> float | None:
        """The lowest noise level: as given, or as the function says."""
        return _known(self._range[0], self.function, "sigma_min", lambda sigmas: sigmas[sigmas > 0].min())

    @property
    def sigma_max(self) -> float | None:
        """The highest noise level: as given, or as the function says."""
        return _known(self._range[1], self.function, "sigma_max", lambda sigmas: sigmas.max())

    def __call__(self, x: Tensor, sigma: Tensor, **extra_args: Any) -> Tensor:
        """The denoised sample: x (B, ...) and sigma (B,) to (B, ...)."""
        return self.answer(x, sigma, extra_args)[0]

    def at(self, x: Tensor, level: float, extra_args: Mapping[str, Any], *, pair: bool = False) -> Answer:
        """The denoised sample where every sigma is ``level``, and for a ``pair`` that without the condition."""
        return self.answer(x, x.new_full(x.shape[:1], level), extra_args)

    def answer(self, x: Tensor, sigma: Tensor, extra_args: Mapping[str, Any]) -> Answer:
        """What the function gave, checked: the denoised sample, and that without the condition or None."""
        out: Any = self.function(x, sigma.to(x.dtype), **extra_args)
        denoised, unconditional = out if isinstance(out, tuple) and len(out) == 2 else (out, None)
        for tensor in (denoised,) if unconditional is None else (denoised, unconditional):
            if not isinstance(tensor, Tensor) or tensor.shape != x.shape:
                got = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
                raise ValueError(
                    f"model must return the denoised sample, a tensor of the shape of x, {tuple(x.shape)}; got {got}"
                )
        return denoised, unconditional  # type: ignore[return-value]  # checked above

    def __repr__(self) -> str:
        return f"Model({type(self.function).__name__}, process={self.process!r})"


class DenoiserModel(Model):
    """A Denoiser of any process as a model: x is scaled from the model's process to the denoiser's at the same
    signal-to-noise ratio. Levels above that of the process's T, as churn makes them, are told as they are.

    Called by others with sigma on a device, it reads sigma back once a call; the samplers here do not need that.
    """

    def __init__(self, denoiser: BaseDenoiser, process: str = "edm") -> None:
        level = choose(process, PROCESSES, "process").level
        sde = denoiser.sde
        super().__init__(denoiser, process, level(sde.rho(sde.eps)), level(sde.rho(sde.T)))
        self.denoiser = denoiser

    def at(self, x: Tensor, level: float, extra_args: Mapping[str, Any], *, pair: bool = False) -> Answer:
        """See :meth:`Model.at`; guidance knows both predictions."""
        t, scale = self._place(level)
        y = x * scale
        if not pair:
            return self.denoiser(y, t, **extra_args), None
        found, denoiser = self.denoiser.evaluate(y, t, **extra_args), self.denoiser
        other = found.unconditional
        return denoiser.converted(y, t, found.prediction, found.kind, "x0"), (
            None if other is None else denoiser.converted(y, t, other, found.kind, "x0")
        )

    def answer(self, x: Tensor, sigma: Tensor, extra_args: Mapping[str, Any]) -> Answer:
        """See :meth:`Model.answer`; the levels of the samples may differ."""
        levels = sigma.expand(x.shape[0]).tolist()
        if len(set(levels)) == 1:
            return self.at(x, levels[0], extra_args)
        t, scale = torch.tensor([self._place(level) for level in levels], dtype=torch.float64).T
        y = x * scale.to(x).reshape(-1, *(1,) * (x.ndim - 1))
        return self.denoiser(y, t, **extra_args), None

    def _place(self, level: float) -> tuple[float, float]:
        """The denoiser's time at a level, and the factor from the model's x to the denoiser's."""
        process, sde = PROCESSES[self.process], self.denoiser.sde
        t = sde.t_at_lam(process.lam(level)) if level > 0.0 else 0.0
        if not math.isfinite(t):  # pure noise, which the denoiser's process never quite is
            t = sde.T
        elif t <= 0.0 < level:  # VE has no noise level below its sigma_min
            t = sde.eps
        return t, (sde.alpha(t) + sde.sigma(t)) / process.size(level)


def as_model(model: Any, process: str = "edm") -> Model:
    """A model as it is, or one of this process around a Denoiser or a callable.

    Raises:
        TypeError: not callable.
        ValueError: an unknown process.
    """
    if isinstance(model, Model):
        return model
    return (DenoiserModel if isinstance(model, BaseDenoiser) else Model)(model, process)


def wrap_denoiser(denoiser: BaseDenoiser, process: str = "edm") -> Model:
    """A Denoiser of any process as a model of k-diffusion.

    Args:
        denoiser: of :class:`scoresde.Denoiser`, guided ones too.
        process: of the model: "edm" (x = x0 + sigma noise, whatever the denoiser's own process), or "flow" (x = (1 -
            sigma) x0 + sigma noise).

    Returns:
        ``model(x, sigma, **cond)``, with ``sigma_min`` and ``sigma_max`` of its process's eps and T.

    Raises:
        TypeError: not a denoiser.
        ValueError: an unknown process.
    """
    if not isinstance(denoiser, BaseDenoiser):
        raise TypeError(f"denoiser must be a scoresde.Denoiser, got {type(denoiser).__name__}")
    return DenoiserModel(denoiser, process)


def wrap_model(
    model: Callable[..., Any],
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    process: str | None = None,
) -> Denoiser:
    """A model of k-diffusion as a Denoiser, on :class:`scoresde.EDM` or, of process "flow", on
    :class:`scoresde.RectifiedFlow`; conditions are passed on as keywords.

    Args:
        model: a callable or a :class:`Model`; k-diffusion's CompVisDenoiser, OpenAIDenoiser and VDenoiser are such.
        sigma_min, sigma_max: the range of the process; by default the model's own ``sigma_min`` and ``sigma_max``, or
            the ends of its ``sigmas``. A flow needs none.
        process: "edm" or "flow"; by default the model's, or "edm".

    Raises:
        TypeError: not callable.
        ValueError: an unknown process, one of "edm" without a range, or another process than the model's own.
    """
    known = as_model(model, "edm" if process is None else process)
    if process not in (None, known.process):
        raise ValueError(f"process={process!r}: the model is of process {known.process!r} already; leave it out")
    low = known.sigma_min if sigma_min is None else float(sigma_min)
    high = known.sigma_max if sigma_max is None else float(sigma_max)
    make = PROCESSES[known.process].sde
    if known.process == "flow":
        return Denoiser(known, make(0.0, 1.0), "x0", "sigma")
    if low is None or high is None or not math.isfinite(high):
        lacking = "sigma_min" if low is None else "sigma_max"
        raise ValueError(
            f"{lacking}: pass the range of noise levels of the model, sigma_min and sigma_max; it has got no finite "
            f"{lacking} itself (nor sigmas)"
        )
    return Denoiser(known, make(low, high), "x0", "rho")


@overload
def wrap(
    model: BaseDenoiser, sigma_min: float | None = None, sigma_max: float | None = None, process: str | None = None
) -> Model: ...
@overload
def wrap(
    model: Callable[..., Any],
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    process: str | None = None,
) -> Denoiser: ...
def wrap(
    model: Any, sigma_min: float | None = None, sigma_max: float | None = None, process: str | None = None
) -> Model | Denoiser:
    """Both ways: a Denoiser becomes a model of k-diffusion (:func:`wrap_denoiser`), a model of k-diffusion becomes a
    Denoiser (:func:`wrap_model`).

    Args:
        model: either of them.
        sigma_min, sigma_max: of a model; a denoiser has its own.
        process: of the model: "edm" or "flow".

    Raises:
        TypeError: neither of them.
        ValueError: an unknown process, a model without a range, or a range for a denoiser.
    """
    if not isinstance(model, BaseDenoiser):
        return wrap_model(model, sigma_min, sigma_max, process)
    if sigma_min is not None or sigma_max is not None:
        raise ValueError(
            f"sigma_min={sigma_min}, sigma_max={sigma_max}: a denoiser has the range of its process; leave them out"
        )
    return wrap_denoiser(model, "edm" if process is None else process)


def _known(given: Any, model: Any, name: str, end: Callable[[Tensor], Tensor]) -> float | None:
    """A noise level as given, or as a model of k-diffusion states it, or as an end of its table of sigmas."""
    level = getattr(model, name, None) if given is None else given
    table = getattr(model, "sigmas", None)
    if level is None and isinstance(table, Tensor) and table.numel():
        level = end(table)
    return float(level) if isinstance(level, int | float | Tensor) else None
