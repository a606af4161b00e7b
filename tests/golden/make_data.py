"""Writes the compact copy ``data`` from the full golden folder: SCORESDE_GOLDEN=folder python tests/golden/make_data.py

The format stays the same. Left out are trajectories, and all but the first points of each sample: samplers treat points
one by one, except those in COUPLED, which measure an error or a norm over all of them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).with_name("data")
POINTS = 8
COUPLED = ("adaptive", "langevin", "likelihood")
DROPPED_ARRAYS = ("traj",)
BY_POINT = ("x_end", "bpd", "hutchinson_probe", "log_p_exact_at_eps", "log_p_from_bpd")
# Of the manifest: what the tests read, and where everything came from.
DROPPED_TOP = ("files", "observed_orders", "schedule_searches", "software")
DROPPED_OF_CASE = ("repository", "commit", "dtype", "traj_len", "traj_points", "rms_error_to_ode", "response_to_1e-12")
BY_SOURCE = ("notes", "source_patches")  # the same in many cases: listed once for each source


def main(source: Path, points: int = POINTS) -> None:
    """Write the copy."""
    manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    DATA.mkdir(exist_ok=True)
    cases, files = [], {case["file"] for case in manifest["cases"]}
    for file in sorted(files):
        with np.load(source / file) as full:
            kept = {}
            for case in manifest["cases"]:
                if case["file"] == file:
                    case["arrays"] = [a for a in case["arrays"] if a not in DROPPED_ARRAYS]
                    coupled = any(word in case["solver"] for word in COUPLED)
                    for name in case["arrays"]:
                        array, key = full[f"{case['id']}/{name}"], f"{case['id']}/{name}"
                        kept[key] = array if coupled or name not in BY_POINT else array[:points]
                    cases.append({k: v for k, v in case.items() if k not in (*DROPPED_OF_CASE, *BY_SOURCE)})
            np.savez_compressed(DATA / file, **kept)
    with np.load(source / "ode_reference.npz") as full:
        np.savez_compressed(DATA / "ode_reference.npz", **{k: full[k][:points] for k in full.files})
    for file in ("targets.npz", "noise.npz"):
        with np.load(source / file) as full:
            np.savez_compressed(DATA / file, **{k: full[k] for k in full.files})
    top = {k: v for k, v in manifest.items() if k not in DROPPED_TOP}
    top |= {"copy_of": f"the first {points} points of each case, without trajectories", "n_cases": len(cases)}
    for name in BY_SOURCE:
        lists = {
            source: [c[name] for c in manifest["cases"] if c["source"] == source and c.get(name)]
            for source in top["sources"]
        }
        top[name] = {
            source: [v for i, v in enumerate(values) if v not in values[:i]] for source, values in lists.items()
        }
    top["cases"] = sorted(cases, key=lambda case: case["id"])
    text = json.dumps(top, indent=None, separators=(",", ":"))
    (DATA / "manifest.json").write_text(text.replace('{"id":', '\n{"id":') + "\n", encoding="utf-8")


if __name__ == "__main__":
    if not os.environ.get("SCORESDE_GOLDEN"):
        sys.exit("SCORESDE_GOLDEN must name the full folder")
    main(Path(os.environ["SCORESDE_GOLDEN"]))
