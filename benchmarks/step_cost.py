"""What one `step` costs beside the schedulers of diffusers, by like pairs: the same method, steps and tensors.

    python -m benchmarks.step_cost                   # writes docs/measured/step-cost.json and .md
    python -m benchmarks.step_cost "DPM++ 2M" Euler  # some pairs: prints, writes nothing

Both sides go through the same loop, `x = scheduler.step(output, t, x, return_dict=False)[0]` over all timesteps, with
one fixed tensor as the network's output; what is timed is the loop, divided by its steps. Rounds of the two (and of
`Run.tell` alone, which the scheduler calls) take turns, and medians are compared, so that a busy machine slows all of
them. Public API only. Some minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median, quantiles
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.measured import OUT, markdown
from scoresde.bench.environment import environment

STEPS = 20
TINY = (1, 4, 8, 8)
SHAPES: tuple[tuple[int, ...], ...] = (TINY, (8, 4, 128, 128), (4, 16, 128, 128))
TABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}  # Stable Diffusion's
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}


@dataclass(frozen=True)
class Pair:
    """A scheduler of diffusers and our solver of the same method.

    ``several`` marks methods that mix several evaluations in a step: multistep and predictor-corrector ones.
    """

    theirs: str
    solver: str
    several: bool = False
    options: dict[str, Any] = field(default_factory=lambda: TABLE)


# To compare another pair, add a line.
PAIRS = {
    "Euler": Pair("EulerDiscreteScheduler", "euler"),
    "Euler of flows": Pair("FlowMatchEulerDiscreteScheduler", "euler-flow", options={"shift": 3.0}),
    "Euler of EDM": Pair("EDMEulerScheduler", "euler", options={}),
    "DDIM": Pair("DDIMScheduler", "ddim", options={**TABLE, "clip_sample": False}),
    "Heun": Pair("HeunDiscreteScheduler", "heun"),
    "Heun of flows": Pair("FlowMatchHeunDiscreteScheduler", "heun-flow", options={"shift": 3.0}),
    "DPM2": Pair("KDPM2DiscreteScheduler", "dpm2"),
    "DPM++ 2S": Pair("DPMSolverSinglestepScheduler", "dpmpp-2s"),
    "Euler a": Pair("EulerAncestralDiscreteScheduler", "euler-a"),
    "DDPM": Pair("DDPMScheduler", "ddpm", options={**TABLE, "clip_sample": False}),
    "LCM": Pair("LCMScheduler", "lcm"),
    "TCD": Pair("TCDScheduler", "tcd"),
    "DPM++ 2M": Pair("DPMSolverMultistepScheduler", "dpmpp-2m", True),
    "DPM++ 3M": Pair("DPMSolverMultistepScheduler", "dpmpp-3m", True, {**TABLE, "solver_order": 3}),
    "DPM++ 2M of flows": Pair("DPMSolverMultistepScheduler", "dpmpp-2m", True, FLOW),
    "DPM++ 2M of EDM": Pair("EDMDPMSolverMultistepScheduler", "dpmpp-2m", True, {}),
    "DPM++ 2M SDE": Pair(
        "DPMSolverMultistepScheduler", "dpmpp-2m-sde", True, {**TABLE, "algorithm_type": "sde-dpmsolver++"}
    ),
    "UniPC-2": Pair("UniPCMultistepScheduler", "unipc-2", True),
    "UniPC-3": Pair("UniPCMultistepScheduler", "unipc-3", True, {**TABLE, "solver_order": 3}),
    "UniPC-2 of flows": Pair("UniPCMultistepScheduler", "unipc-2", True, FLOW),
    "DEIS-2": Pair("DEISMultistepScheduler", "deis-tab2", True),
    "DEIS-3": Pair("DEISMultistepScheduler", "deis-tab3", True, {**TABLE, "solver_order": 3}),
    "SA-Solver": Pair("SASolverScheduler", "sa-solver", True),
    "LMS-4": Pair("LMSDiscreteScheduler", "lms-4", True),
    "PNDM": Pair("PNDMScheduler", "pndm", True, {**TABLE, "skip_prk_steps": True}),
    "iPNDM": Pair("IPNDMScheduler", "ipndm-4", True, {}),
}

Loop = Callable[[], float]  # microseconds a step


def stepping(scheduler: Any, x: Tensor, output: Tensor) -> Loop:
    """The loop of a pipeline without its network."""

    def run() -> float:
        scheduler.set_timesteps(STEPS)
        timesteps, state = scheduler.timesteps, x
        if hasattr(scheduler, "is_scale_input_called"):
            scheduler.is_scale_input_called = True  # it would warn; the scaling is not part of the step
        begin = time.perf_counter()
        for t in timesteps:
            state = scheduler.step(output, t, state, return_dict=False)[0]
        return 1e6 * (time.perf_counter() - begin) / len(timesteps)

    return run


def telling(plan: Any, kind: Any, x: Tensor, output: Tensor) -> Loop:
    """The same loop with a run alone."""

    def run() -> float:
        going = plan.start(x, noise=lambda k: torch.randn(x.shape), check="off")
        begin = time.perf_counter()
        while not going.done:
            going.tell(output, kind)
            _ = going.x
        return 1e6 * (time.perf_counter() - begin) / plan.nfe

    return run


def turn(loop: Loop, times: int) -> float:
    """One side's part of a round: several loops where they are short, so that what the others left in caches goes."""
    return median(loop() for _ in range(times))


def measure(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """One pair at one shape: medians, and their ratio with the quartiles of the rounds' ratios.

    What both draw from torch's generator is the same, so torch.randn gives one fixed tensor and is timed apart.
    """
    import diffusers

    from scoresde.integrations.diffusers import Scheduler
    from scoresde.integrations.diffusers.source import read

    pair = PAIRS[name]
    theirs = getattr(diffusers, pair.theirs)(**pair.options)
    ours = Scheduler.from_config(theirs, solver=pair.solver, count="steps", check="off")
    x, output = torch.randn(shape), torch.randn(shape)
    ours.set_timesteps(STEPS)
    source = read({"_class_name": pair.theirs, **theirs.config})
    kind = source.kind if source.precondition is None else source.precondition
    loops = stepping(theirs, x, output), stepping(ours, x, output), telling(ours.plan, kind, x, output)
    begin, noise = time.perf_counter(), torch.randn(shape)
    draws_us = 1e6 * (time.perf_counter() - begin) * ours.plan.noises / ours.plan.nfe

    def given(*_: Any, **__: Any) -> Tensor:
        return noise

    with mock.patch.object(torch, "randn", given):
        for loop in loops:
            loop()
        times, rounds = (5, 31) if shape == TINY else (1, 11)
        taken = [[turn(loop, times) for loop in loops] for _ in range(rounds)]
    diffusers_us, step_us, tell_us = (median(column) for column in zip(*taken, strict=True))
    low, _, high = quantiles([b / a for a, b, _ in taken], n=4)
    return {
        "method": name,
        "shape": list(shape),
        "diffusers class": pair.theirs,
        "solver": pair.solver,
        "diffusers": round(diffusers_us, 1),
        "step": round(step_us, 1),
        "tell": round(tell_us, 1),
        "drawing noise": round(draws_us, 1),
        "ratio": round(step_us / diffusers_us, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "limit": limit(pair, shape),
    }


def limit(pair: Pair, shape: tuple[int, ...]) -> float:
    """What the ratio should be at most."""
    if pair.several:
        return round(1 / 3, 3)
    return 1.2 if shape == TINY else 1.0


def table(rows: list[dict[str, Any]]) -> str:
    """One line a method; for each shape, microseconds of both and the ratio with its quartiles."""
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in rows))
    head = ["method", "solver", *(f"{'×'.join(map(str, shape))}: diffusers, ours, ratio" for shape in shapes)]
    lines: dict[str, list[str]] = {}
    for row in rows:
        low, high = row["quartiles"]
        over = "" if row["ratio"] <= row["limit"] else " **over**"
        drawn = f" (+{row['drawing noise']:.0f})" if row["drawing noise"] else ""
        line = lines.setdefault(row["method"], [row["method"], row["solver"]])
        line.append(
            f"{row['diffusers']:.0f}, {row['step']:.0f}{drawn}, {row['ratio']:.2f} [{low:.2f}, {high:.2f}]{over}"
        )
    return markdown([head, *lines.values()])


def main() -> None:
    """Measure the pairs that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", nargs="*", help=f"of {', '.join(PAIRS)}; all unless given")
    asked = parser.parse_args().pair or list(PAIRS)
    if unknown := set(asked) - set(PAIRS):
        parser.error(f"{sorted(unknown)[0]!r} is not one of {', '.join(PAIRS)}")
    torch.set_num_threads(1)
    # A process that has once freed something large, as every network does, keeps the memory that it frees from then on
    # (of up to this size, with glibc). Before, each tensor of some MB would come from the kernel and go back, and page
    # faults, several times the arithmetic on either side, would be what is measured.
    torch.empty(31 * 2**20, dtype=torch.uint8)
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        for name in asked:
            rows.append(measure(name, shape))
            print(json.dumps(rows[-1]), flush=True)
    facts = {**environment(1), "diffusers": version("diffusers")}
    words = ", ".join(f"{k} {v}" for k, v in facts.items())
    about = (
        "Microseconds a step, float32 on the CPU, medians of rounds that take turns. The ratio is of the medians, and "
        "in brackets are the quartiles of the rounds' ratios. Drawing noise is torch's own and the same on both sides: "
        "it is left out of both, and is what (+...) says."
    )
    text = f"{table(rows)}\n{about} {words}.\n"
    print(text)
    if len(asked) == len(PAIRS):
        OUT.mkdir(exist_ok=True)
        answer = json.dumps({"environment": facts, "rows": rows}, indent=1)
        (OUT / "step-cost.json").write_text(answer + "\n", encoding="utf-8")
        (OUT / "step-cost.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
