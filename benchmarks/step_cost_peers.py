"""What a network call costs in the sampler alone, beside the samplers of other libraries: the same method and levels.

    python -m benchmarks.step_cost_peers             # writes docs/measured/step-cost-peers.json and .md
    python -m benchmarks.step_cost_peers Euler Heun  # some methods: prints, writes nothing

Each side runs whole, as its users run it, with a network that gives one fixed tensor at once; what is timed is the run,
divided by the network's calls. Sides take turns, and medians are compared, so that a busy machine slows all of them.
A library that is not installed is left out, and named. Half a minute on one core. :mod:`benchmarks.step_cost` has the
schedulers of diffusers method by method.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.measured import OUT, markdown
from benchmarks.peers import azula, diffusers, k_diffusion, skrample
from benchmarks.step_cost import STEPS, TINY, Loop, stepping, turn
from scoresde.bench.environment import environment
from scoresde.grids import get_grid
from scoresde.integrations.azula import Posterior
from scoresde.sample import make_plan
from scoresde.sde import EDM

SHAPES: tuple[tuple[int, ...], ...] = (TINY, (4, 16, 128, 128))
SDE = EDM()
TIMES = get_grid("karras", SDE, STEPS)


@dataclass(frozen=True)
class Method:
    """One method under its names; "" where a library has none that is the same.

    Attributes:
        solver: ours.
        diffusers: a scheduler's class, and its options.
        k_diffusion: a sampling function.
        azula: a sampler's class, and its options.
        skrample: a structured sampler's class, and its options.
    """

    solver: str
    diffusers: tuple[str, dict[str, Any]] | None = None
    k_diffusion: str = ""
    azula: tuple[str, dict[str, Any]] | None = None
    skrample: tuple[str, dict[str, Any]] | None = None


# To compare another method, add a line.
METHODS = {
    "Euler": Method("euler", ("EulerDiscreteScheduler", {}), "sample_euler", ("EulerSampler", {}), ("Euler", {})),
    "Heun": Method("heun", ("HeunDiscreteScheduler", {}), "sample_heun", ("HeunSampler", {})),
    "DPM++ 2M": Method("dpmpp-2m", ("DPMSolverMultistepScheduler", {}), "sample_dpmpp_2m", None, ("DPM", {})),
    "Adams 2 of x0": Method("adams-2", azula=("xEABSampler", {})),
    "LMS-4": Method("lms-4", ("LMSDiscreteScheduler", {}), "sample_lms", ("zABSampler", {"order": 4})),
    "UniPC-2": Method("unipc-2", ("UniPCMultistepScheduler", {}), skrample=("UniPC", {"fast_solve": True})),
}


def timed(run: Callable[[Callable[[], None]], Any]) -> Loop:
    """A loop of microseconds a call: ``run`` is told what its network does at each call."""

    def loop() -> float:
        calls = 0

        def called() -> None:
            nonlocal calls
            calls += 1

        begin = time.perf_counter()
        run(called)
        return 1e6 * (time.perf_counter() - begin) / calls

    return loop


def ours(method: Method, x: Tensor, output: Tensor) -> Loop:
    """A run of the plan; planning is done once for all runs, and not timed."""
    plan = make_plan(method.solver, SDE, TIMES)

    def run(called: Callable[[], None]) -> None:
        going = plan.start(x, check="off")
        while not going.done:
            called()
            going.tell(output, "x0")
        _ = going.sample

    return timed(run)


def of_diffusers(method: Method, x: Tensor, output: Tensor) -> Loop | None:
    """A pipeline's loop."""
    if method.diffusers is None:
        return None
    name, options = method.diffusers
    return stepping(getattr(diffusers.PACKAGE.load("diffusers"), name)(**options), x, output)


def of_k_diffusion(method: Method, x: Tensor, output: Tensor) -> Loop | None:
    """A sampling function. Its Euler and Heun draw noise at each step for a churn that is off: that is in it."""
    if not method.k_diffusion:
        return None
    function = getattr(k_diffusion.sampling(), method.k_diffusion)
    sigmas = torch.tensor(TIMES)

    def run(called: Callable[[], None]) -> None:
        def model(x: Tensor, sigma: Tensor) -> Tensor:
            called()
            return output

        function(model, x, sigmas, disable=True)

    return timed(run)


def of_azula(method: Method, x: Tensor, output: Tensor) -> Loop | None:
    """A sampler on azula's own variance-exploding schedule between the same levels."""
    if method.azula is None:
        return None
    name, options = method.azula
    sampler = getattr(azula.PACKAGE.load("azula.sample"), name)
    levels = azula.PACKAGE.load("azula.noise").VESchedule(SDE.sigma_min, SDE.sigma_max)

    class Fixed:
        schedule = levels

        def __init__(self, called: Callable[[], None]) -> None:
            self.called = called

        def __call__(self, x: Tensor, t: Tensor) -> Posterior:
            self.called()
            return Posterior(output)

    return timed(lambda called: sampler(Fixed(called), steps=STEPS, silent=True, **options)(x))


def of_skrample(method: Method, x: Tensor, output: Tensor) -> Loop | None:
    """A structured sampler on skrample's schedule of Stable Diffusion, in the loop that skrample has for it."""
    if method.skrample is None:
        return None
    name, options = method.skrample
    sampler = getattr(skrample.load("skrample.sampling.structured"), name)(**options)
    loop = skrample.load("skrample.sampling.interface").StructuredFunctionalAdapter(sampler)
    predicts = skrample.load("skrample.sampling.models").DataModel()
    schedule = skrample.load("skrample.scheduling").Scaled()

    def run(called: Callable[[], None]) -> None:
        def model(x: Tensor, t: float, sigma: float, alpha: float) -> Tensor:
            called()
            return output

        loop.sample_model(x, model, predicts, schedule, STEPS)

    return timed(run)


SIDES = {
    "ours": ours,
    "diffusers": of_diffusers,
    "k-diffusion": of_k_diffusion,
    "azula": of_azula,
    "skrample": of_skrample,
}
PACKAGES = {"diffusers": diffusers, "k-diffusion": k_diffusion, "azula": azula, "skrample": skrample}


@cache
def left_out(why: str) -> None:
    """Say once that a library is missing."""
    print(f"left out: {why}", flush=True)


def measure(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """One method at one shape: medians of every side that has it and is installed, and what the others take of ours."""
    x, output = torch.randn(shape), torch.randn(shape)
    loops: dict[str, Loop] = {}
    for side, make in SIDES.items():
        try:
            loop = make(METHODS[name], x, output)
        except ImportError as error:
            left_out(str(error))
            continue
        if loop is not None:
            loop()
            loops[side] = loop
    times, rounds = (3, 21) if shape == TINY else (1, 7)
    taken = [{side: turn(loop, times) for side, loop in loops.items()} for _ in range(rounds)]
    medians = {side: median(row[side] for row in taken) for side in loops}
    return {
        "method": name,
        "shape": list(shape),
        "microseconds": {side: round(value, 1) for side, value in medians.items()},
        "times ours": {side: round(value / medians["ours"], 2) for side, value in medians.items() if side != "ours"},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """One line a method and shape: microseconds a call of each side, and how many times ours."""
    sides = [side for side in SIDES if any(side in row["microseconds"] for row in rows)]
    lines = [["method", "shape", *sides]]
    for row in rows:
        ratios = {side: f" ({ratio:.1f}×)" for side, ratio in row["times ours"].items()}
        cells = [
            f"{row['microseconds'][side]:.0f}{ratios.get(side, '')}" if side in row["microseconds"] else ""
            for side in sides
        ]
        lines.append([row["method"], "×".join(map(str, row["shape"])), *cells])
    return markdown(lines)


def main() -> None:
    """Measure the methods that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="*", help=f"of {', '.join(METHODS)}; all unless given")
    asked = parser.parse_args().method or list(METHODS)
    if unknown := set(asked) - set(METHODS):
        parser.error(f"{sorted(unknown)[0]!r} is not one of {', '.join(METHODS)}")
    torch.set_num_threads(1)
    torch.empty(31 * 2**20, dtype=torch.uint8)  # see benchmarks.step_cost: memory stays with the process from now on
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        for shape in SHAPES:
            for name in asked:
                rows.append(measure(name, shape))
                print(json.dumps(rows[-1]), flush=True)
    measured = {side for row in rows for side in row["microseconds"]}
    facts = {**environment(1), "packages": [PACKAGES[side].PACKAGE.label for side in PACKAGES if side in measured]}
    words = ", ".join(f"{k} {v}" for k, v in facts.items() if k != "packages")
    about = (
        f"Microseconds a network call in the sampler alone, {STEPS} steps, float32 on the CPU, medians of rounds that "
        f"take turns; in brackets, how many times ours. {', '.join(facts['packages'])}; {words}."
    )
    text = f"{table(rows)}\n{about}\n"
    print(text)
    if len(asked) == len(METHODS):
        OUT.mkdir(exist_ok=True)
        answer = json.dumps({"environment": facts, "rows": rows}, indent=1)
        (OUT / "step-cost-peers.json").write_text(answer + "\n", encoding="utf-8")
        (OUT / "step-cost-peers.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
