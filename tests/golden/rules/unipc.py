"""wl-zhao/UniPC."""

from __future__ import annotations

from scoresde.solvers import UniPC
from tests.golden.reading import Options, Reading, Rule, lower_last
from tests.golden.rules.predictor_corrector import on_corrected_points
from tests.golden.store import Case

SHOWN = ("steps", "skip_type", "t_start", "t_end")
UNIPC_KINDS = {"data_prediction": "x0", "noise_prediction": "epsilon"}


def unipc(case: Case, o: Options) -> Reading:
    o.need("method", "multistep", "multistep")
    order = o.need("order", 2, 1, 2, 3, 4)
    variant = o.need("variant", "bh1", "bh1", "bh2", "vary_coeff")
    last = lower_last(order, o.get("steps", 20)) if o.get("lower_order_final", True) else ()
    solver = UniPC(
        order,
        variant.removesuffix("_coeff"),
        UNIPC_KINDS[o.need("algorithm_type", "data_prediction", *UNIPC_KINDS)],
        official=variant == "vary_coeff",
        order_of_last_steps=(*last, *([1] if last and o.get("denoise_to_zero", False) else [])),
    )
    return on_corrected_points(case, solver)


RULES: dict[str, Rule] = {
    "unipc": unipc,
}
