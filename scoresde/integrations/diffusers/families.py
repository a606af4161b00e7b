"""What the configs of diffusers' schedulers mean: one function for each kind of scheduler.

What is particular to a class is a row of :data:`~scoresde.integrations.diffusers.classes.CLASSES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scoresde.denoiser import EDMPrecond
from scoresde.errors import choose
from scoresde.integrations.diffusers.labels import Between, Entries, Labels, Number, OfNumber, OfTime
from scoresde.integrations.diffusers.outputs import BoundaryPrecond, FlippedEDMPrecond, ReversedFlow
from scoresde.integrations.diffusers.processes import Angle, alphas_cumprod
from scoresde.integrations.diffusers.spacing import (
    SPACINGS,
    Conversion,
    DistilledSchedule,
    FlowSchedule,
    LineSchedule,
    LogLinear,
    RampSchedule,
    Schedule,
    TableSchedule,
)
from scoresde.predictions import Precondition
from scoresde.sde import EDM, SDE, VE, VP, CosineVP, DiscreteVP, Point, RectifiedFlow

Options = Mapping[str, Any]

KINDS = {
    "epsilon": "epsilon",
    "sample": "x0",
    "original_sample": "x0",
    "v_prediction": "v",
    "flow_prediction": "flow",
}


class Built(NamedTuple):
    """What a config means."""

    sde: SDE
    kind: str
    schedule: Schedule
    precondition: Precondition | None = None


# Of the noise with which a pipeline begins at a point: its standard deviation in the units of the process.
NOISE_SCALES: dict[str, Callable[[Point, Options], float]] = {
    "one": lambda at, o: 1.0,
    "sigma": lambda at, o: at.sigma,
    "sigma unless leading": lambda at, o: 1.0 if o["timestep_spacing"] == "leading" else at.sigma,
    "norm": lambda at, o: math.hypot(at.alpha, at.sigma),
}


@dataclass(frozen=True)
class Facts:
    """What is particular to one class.

    Attributes:
        build: from these facts and a config with defaults to what it means.
        alike: the class whose options and defaults it has, but for ``defaults``; if not its own. (Classes that need
            torchsde or SciPy have no signature without.)
        defaults: see there.
        also: keys that the class looks for in its config though they are not its options.
        spare: leaves out the last of steps + 1 indices (DPM-Solver) instead of spacing just the steps (DDIM).
        karras_ends: such keys are heeded by Karras' levels too.
        rounds_linspace: it rounds the indices of "linspace".
        rounds: a name of :data:`ROUNDS`.
        between: rho is linear in the index between the entries of the table; else it has labels at entries only.
        least: what it puts in place of alpha^2 = 0 at zero terminal SNR.
        ends: "data"; "first" for the table's first entry; or the key that says which.
        repeats: after converted and flow levels its end, if not the data, is the last of them again: a step of no
            length, which goes to the data here.
        limits: it thresholds ("thresholding") and clips ("clip_sample") what it predicts, if its config says so.
        begins: a name of :data:`NOISE_SCALES`.
        flow: a name of :data:`~scoresde.integrations.diffusers.spacing.FLOWS`.
        shifts_given: sigmas from outside are shifted too.
        labels: a name of :data:`~scoresde.integrations.diffusers.labels.FUNCTIONS`, for EDM's.
    """

    build: Callable[[Facts, Options], Built]
    alike: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    spare: int = 0
    rounds_linspace: bool = True
    karras_ends: bool = True
    rounds: str = "all"
    between: bool = False
    least: float = 0.0
    ends: str = "data"
    repeats: bool = False
    limits: tuple[str, ...] = ()
    begins: str = "one"
    flow: str = ""
    shifts_given: bool = True
    labels: str = "c_noise"


# -- kinds of schedule ------------------------------------------------------------------------------------------------
CONVERSIONS = ("karras", "exponential", "beta")


def conversion(facts: Facts, o: Options) -> Conversion | None:
    """The levels that take the place of spaced ones, if any."""
    names = [name for name in CONVERSIONS if o.get(f"use_{name}_sigmas")]
    if len(names) > 1:
        raise ValueError(f"only one of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas can be true: {names}")
    if o.get("use_lu_lambdas") and "karras" not in names:
        return Conversion("exponential")
    if not names:
        return None
    low, high = o.get("sigma_min"), o.get("sigma_max")
    if names == ["karras"] and not facts.karras_ends:
        low = high = None
    if low is not None and high is not None and not 0 < low < high:
        raise ValueError(f"sigma_min must be positive and below sigma_max; got sigma_min={low}, sigma_max={high}")
    return Conversion(names[0], low, high)


def _cut(label: float) -> float:
    return float(math.floor(label + 1e-6))  # 998.9999999 is 999 that was computed


def _round(label: float) -> float:
    return float(round(label))


def _karras(o: Options) -> bool:
    return bool(o.get("use_karras_sigmas") or o.get("use_lu_lambdas"))


# What becomes of a label before the network sees it; "cut" ones are made ints (but rounded if they are Karras').
ROUNDS: dict[str, Callable[[Options], Callable[[float], float]]] = {
    "no": lambda o: float,
    "all": lambda o: _round,
    "karras": lambda o: _round if _karras(o) else float,
    "cut": lambda o: _round if _karras(o) and not o.get("use_flow_sigmas") else _cut,
    "cut cosine": lambda o: _cut if o["beta_schedule"] == "squaredcos_cap_v2" else ROUNDS["cut"](o),
}


def _kind(o: Options, *, flow: bool) -> str:
    kind = choose(o.get("prediction_type") or "epsilon", KINDS, "prediction_type")
    if kind == "flow" and not flow:
        raise ValueError("prediction_type='flow_prediction' needs use_flow_sigmas=True: the process is not a flow's")
    return kind


def _end(facts: Facts, o: Options, first: float) -> float:
    """The number at which it ends; ``first`` is that of the table's first entry."""
    if facts.ends in ("data", "first"):
        return first if facts.ends == "first" else 0.0
    if facts.ends == "final_sigmas_type":
        return choose(o[facts.ends], {"zero": 0.0, "sigma_min": first}, "final_sigmas_type")
    return 0.0 if o[facts.ends] else first


def _last(o: Options, process: DiscreteVP) -> int:
    """Entries whose lambda is at least lambda_min_clipped."""
    least = o.get("lambda_min_clipped")
    if least is None or least == -math.inf:
        return process.n
    return sum(a > 0 and 0.5 * math.log(a / (1 - a)) >= least for a in process.alphas_cumprod)


def table(facts: Facts, o: Options) -> Built:
    """A trained table of betas; or rectified flow, where a class of these is told to sample one."""
    process = DiscreteVP(alphas_cumprod(o, least=facts.least))
    low, high = process.point(process.eps).rho, process.point(1.0).rho
    convert = conversion(facts, o)
    if o.get("use_flow_sigmas"):
        return _table_as_flow(facts, o, convert, (high, low))
    sde: SDE = process
    if convert is not None and convert.high is not None and convert.high > high:
        # Noisier than the table (Stable Video Diffusion): the levels are exact, and so are labels that are a formula.
        sde = Angle.between(convert.low or low, convert.high)
    number, kind = Number(sde), _kind(o, flow=False)
    indices = Between(process, number) if facts.between else Entries(process)
    continuous = o.get("timestep_type") == "continuous" and kind == "v"
    labels: Labels = OfNumber(number, "c_noise") if continuous else indices
    if facts.between and convert is not None and not continuous:
        labels = Between(process, number, log=True)
    end = 0.0 if facts.repeats and convert is not None else _end(facts, o, low)
    told, whole = ROUNDS[facts.rounds](o), not continuous
    log_linear = o.get("interpolation_type") == "log_linear"
    if log_linear and convert is None:
        return Built(sde, kind, LogLinear(number, labels, low, told, whole, high))
    schedule = TableSchedule(
        number, labels, end, told, whole,
        indices=indices,
        n=process.n,
        spacing=_spacing(o),
        spare=facts.spare,
        rounds_linspace=facts.rounds_linspace,
        offset=int(o.get("steps_offset") or 0),
        last=_last(o, process),
        convert=convert,
        ends=(high, low) if facts.spare or log_linear or o.get("use_lu_lambdas") else None,
    )  # fmt: skip
    return Built(sde, kind, schedule)


def _spacing(o: Options) -> str:
    name = o.get("timestep_spacing") or "linspace"
    choose(name, SPACINGS, "timestep_spacing")
    return name


def _table_as_flow(facts: Facts, o: Options, convert: Conversion | None, ends: tuple[float, float]) -> Built:
    n = int(o["num_train_timesteps"])
    sde = RectifiedFlow(eps=1 / n)
    number = Number(sde, "sigma")
    unipc = facts.flow == "from 1"
    # DPMSolver's sigma_min is that of its betas, whatever the flow.
    end = _end(facts, o, 0.0 if facts.repeats else ends[1])
    schedule = FlowSchedule(
        number, OfNumber(number, scale=n), end, ROUNDS[facts.rounds](o), True,
        flow=facts.flow,
        low=1 / n,
        static=float(o["flow_shift"]),
        dynamic=o.get("time_shift_type", "exponential") if o.get("use_dynamic_shifting") else "",
        needs_mu=unipc,
        terminal=o.get("shift_terminal"),
        below=1 - 1e-6 if unipc else 1.0,
        convert=convert,
        ends=ends,
    )  # fmt: skip
    return Built(sde, _kind(o, flow=True), schedule)


def distilled(facts: Facts, o: Options) -> Built:
    """A trained table, of which a consistency model was distilled on a few entries."""
    process = DiscreteVP(alphas_cumprod(o, least=facts.least))
    original = int(o["original_inference_steps"])
    if not 1 <= original <= process.n:
        raise ValueError(f"original_inference_steps must be from 1 to {process.n}, got {original}")
    end = _end(facts, o, process.point(process.eps).rho)
    schedule = DistilledSchedule(Number(process), Entries(process), end, _round, True, n=process.n, original=original)
    return Built(process, _kind(o, flow=False), schedule)


def flow(facts: Facts, o: Options) -> Built:
    """Rectified flow."""
    if o.get("scale_factors"):
        raise ValueError("scale_factors: a source that changes the resolution between steps cannot be carried over")
    n = int(o.get("num_train_timesteps", 1000))
    sde = RectifiedFlow(eps=1 / n)
    dynamic = o.get("time_shift_type", "exponential") if o.get("use_dynamic_shifting") else ""
    static, low = float(o.get("shift", 1.0)), 1 / n
    reverse = bool(o.get("invert_sigmas"))
    number = Number(sde, "1 - sigma" if reverse else "sigma")
    schedule = FlowSchedule(
        number, OfNumber(number, scale=n), 1.0 if reverse else 0.0, float, True,
        flow=facts.flow,
        # The least level of training is shifted when the class is made, and again with the others.
        low=low if dynamic else RectifiedFlow(static).sigma(low),
        static=static,
        dynamic=dynamic,
        terminal=o.get("shift_terminal"),
        convert=conversion(facts, o),
        shifts_given=facts.shifts_given,
    )  # fmt: skip
    return Built(sde, "x0", schedule, ReversedFlow()) if reverse else Built(sde, "flow", schedule)


def minimax(facts: Facts, o: Options) -> Built:
    """Rectified flow whose network is told 1 - sigma and predicts the velocity towards the data."""
    sde = RectifiedFlow()
    number = Number(sde, "sigma")
    labels = OfNumber(Number(sde, "1 - sigma"))
    schedule = FlowSchedule(number, labels, flow=facts.flow, static=float(o["shift"]), shifts_given=facts.shifts_given)
    return Built(sde, "x0", schedule, ReversedFlow())


def edm(facts: Facts, o: Options) -> Built:
    """EDM networks, whose scheduler preconditions them."""
    low, high = float(o["sigma_min"]), float(o["sigma_max"])
    sde = EDM(low, high)
    preconditions = {"epsilon": EDMPrecond, "v_prediction": FlippedEDMPrecond}
    precondition = choose(o["prediction_type"], preconditions, "prediction_type")(float(o["sigma_data"]))
    number = Number(sde, "sigma")
    name = choose(o["sigma_schedule"], {"karras": "karras", "exponential": "exponential"}, "sigma_schedule")
    labels = OfNumber(number, facts.labels)
    schedule = RampSchedule(number, labels, _end(facts, o, low), low=low, high=high, name=name, rho=float(o["rho"]))
    return Built(sde, "x0", schedule, precondition)


def consistency(facts: Facts, o: Options) -> Built:
    """Consistency models on EDM's noise levels."""
    low, high, n = float(o["sigma_min"]), float(o["sigma_max"]), int(o["num_train_timesteps"])
    sde = EDM(low, high)
    number = Number(sde, "sigma")
    labels = OfNumber(number, "c_noise", 1000.0)
    schedule = RampSchedule(number, labels, low=low, high=high, rho=float(o["rho"]), entries=n)
    return Built(sde, "x0", schedule, BoundaryPrecond(float(o["sigma_data"]), low))


def pndm_angles(facts: Facts, o: Options) -> Built:
    """Dance Diffusion's angles: sigma = sin^2 of equally spaced ones, and v is what is predicted."""
    if o.get("trained_betas") is not None:
        raise ValueError("trained_betas of IPNDMScheduler are the levels of one number of steps; leave them out")
    sde = Angle()
    return Built(sde, "v", LineSchedule(Number(sde), OfTime(sde), spare=1, time=_sine_squared))


def _sine_squared(u: float) -> float:
    """The time of Angle at which sigma = sin^2(pi u / 2)."""
    return math.asin(math.sin(0.5 * math.pi * u) ** 2) * 2 / math.pi


def wuerstchen(facts: Facts, o: Options) -> Built:
    """Würstchen's cosine process, between alpha^2 = 0.9999 and 0.0001."""
    s = float(o["s"])
    free = CosineVP(s, eps=1e-9, T=1 - 1e-9)
    eps, last = (free.t_at_lam(0.5 * math.log(a / (1 - a))) for a in (0.9999, 0.0001))
    sde = CosineVP(s, eps=eps, T=last)
    labels = OfTime(sde, float(o["scaler"]))
    return Built(sde, "epsilon", LineSchedule(Number(sde), labels, spare=1, time=labels.time))


def score_ve(facts: Facts, o: Options) -> Built:
    """Song's variance-exploding networks, which are told sigma and say the score."""
    sde = VE(float(o["sigma_min"]), float(o["sigma_max"]), eps=float(o["sampling_eps"]))
    number = Number(sde)
    return Built(sde, "score", LineSchedule(number, OfNumber(number), low=sde.eps))


def score_vp(facts: Facts, o: Options) -> Built:
    """Song's variance-preserving networks."""
    sde = VP(float(o["beta_min"]), float(o["beta_max"]), eps=float(o["sampling_eps"]))
    return Built(sde, "epsilon", LineSchedule(Number(sde), OfTime(sde), low=sde.eps))
