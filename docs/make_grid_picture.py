"""Draw where the grids put their times: docs/pictures/grids.svg.

python docs/make_grid_picture.py
"""

from collections.abc import Sequence
from html import escape
from math import isfinite
from pathlib import Path

import torch

import scoresde as ss
from scoresde.grids import GRIDS

PICTURE = Path(__file__).parent / "pictures" / "grids.svg"
STEPS = 10
WIDTH, LEFT, RIGHT, ROW = 760, 150, 20, 21
INK, PALE, DOT = "#1f2933", "#d9dee4", "#2463c4"

STABLE_DIFFUSION = ss.DiscreteVP.from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)
Rows = list[tuple[str, Sequence[float]]]


def rows(sde: ss.SDE, names: Sequence[str], shift: float = 1.0) -> Rows:
    """(what to call it, lambda of each time) of grids that end at the data."""
    label = "" if shift == 1.0 else f", shift {shift:g}"
    return [(name + label, [sde.lam(t) for t in ss.get_grid(name, sde, STEPS, shift=shift)]) for name in names]


def panel(top: int, title: str, lines: Rows, low: float, high: float) -> tuple[list[str], int]:
    """One panel of the picture, and where it ends."""
    inner = WIDTH - LEFT - RIGHT

    def x(lam: float) -> float:
        return LEFT + inner * (lam - low) / (high - low)

    bottom = top + 30 + ROW * len(lines)
    parts = [f'<text x="{LEFT}" y="{top + 8}" font-weight="600">{escape(title)}</text>']
    for lam in range(int(low), int(high) + 1):
        parts.append(f'<path d="M{x(lam):.1f} {top + 18}V{bottom}" stroke="{PALE}"/>')
        parts.append(f'<text x="{x(lam):.1f}" y="{bottom + 15}" text-anchor="middle">{lam}</text>'.replace(">-", ">−"))
    for i, (name, lams) in enumerate(lines):
        y = top + 30 + ROW * i
        parts.append(f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="{PALE}"/>')
        if lams[0] == -float("inf"):
            parts.append(f'<path d="M{LEFT - 4} {y}l6 -4v8z" fill="{DOT}"/>')
        parts += [f'<circle cx="{x(lam):.1f}" cy="{y}" r="3.6" fill="{DOT}"/>' for lam in lams if isfinite(lam)]
    return parts, bottom + 52


def main() -> None:
    """Write the picture."""
    flow = [name for name in GRIDS if name.startswith("oss-")]
    same = ("polyexponential", "edm", "vp")  # log-snr, karras and normal here, but for their options
    spaced = [name for name in GRIDS if name not in (*flow, *same)]
    on_flow = ["log-snr", "karras", "arctan", "beta", "probit", "linear-quadratic", "bong-tangent", "oss-flux"]
    first, below = panel(
        16, f"Stable Diffusion, {STEPS} steps, the last of them to the data", rows(STABLE_DIFFUSION, spaced), -3, 4
    )
    process = ss.RectifiedFlow()
    lines = rows(process, [*on_flow, "uniform"]) + rows(process, ["uniform"], shift=3.0)
    second, height = panel(below, f"Rectified flow, {STEPS} steps from pure noise (◀) to the data", lines, -7, 7)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height - 8}" font-size="12.5" '
        f'font-family="system-ui, sans-serif" fill="{INK}">',
        "<title>Half log signal-to-noise ratio of the times of each grid</title>",
        f'<rect width="{WIDTH}" height="{height - 8}" fill="#fff"/>',
        *first,
        *second,
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 18}" text-anchor="middle">'
        "λ, half the log signal-to-noise ratio: noise on the left, data on the right</text>",
        "</svg>",
    ]
    PICTURE.write_text("\n".join(parts) + "\n", encoding="utf-8")
    print(PICTURE, PICTURE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
