"""From a public sampler and its options to our plan: one small function for each (source, solver), one row in RULES.

A rule reads options by name, so that an option that it does not know is a :class:`NotYet` and never ignored. What shows
in the recorded grid anyway (numbers of steps, ends, spacing) is listed once for each source, in SHOWN. To cover another
sampler: write its rule in the file of its source and add its row there.
"""

from __future__ import annotations

from tests.golden.processes import NotYet
from tests.golden.reading import Options, Reading, Rule
from tests.golden.rules import (
    deis,
    diff_sampler,
    diffusers,
    dpm_solver,
    edm,
    er_sde,
    k_diffusion,
    sa_solver,
    score_sde,
    unipc,
)
from tests.golden.store import Case

SOURCES = {
    "deis": deis,
    "diff_sampler": diff_sampler,
    "diffusers": diffusers,
    "dpm_solver": dpm_solver,
    "edm": edm,
    "er_sde": er_sde,
    "k_diffusion": k_diffusion,
    "sa_solver": sa_solver,
    "score_sde": score_sde,
    "unipc": unipc,
}
RULES: dict[tuple[str, str], Rule] = {
    (source, solver): rule for source, module in SOURCES.items() for solver, rule in module.RULES.items()
}


def read(case: Case) -> Reading:
    """The case in our terms.

    Raises:
        NotYet: no rule, or an option that our solvers do not have; the message is the reason.
    """
    rule = RULES.get((case.source, case.solver))
    if rule is None:
        raise NotYet("no solver of ours")
    options = Options(case, SOURCES[case.source].SHOWN)
    reading = rule(case, options)
    options.check_all_read()
    return reading


def reason_not_covered(case: Case) -> str | None:
    """Why the case is not covered yet; None if it is (or if reading it fails, which is for its own test to show)."""
    try:
        read(case)
    except NotYet as reason:
        return str(reason)
    except Exception:
        return None
    return None
