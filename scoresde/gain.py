r"""How much a step amplifies: what bounds the error of a sampler whose steps are too long for it.

The state at s is :math:`\alpha_s` times data plus noise of deviation :math:`\sigma_s`, and whatever a step does, its
result is a mix of data (those in the state, and the predictions of :math:`x_0`) and noise (that in the state, and what
is added). At t the weights of the data should sum to :math:`\alpha_t`, and the noise should have the deviation
:math:`\sigma_t`. A step that extrapolates far has large weights of both signs, which sum to :math:`\alpha_t` all the
same, but multiply every change of the prediction; and a step that leaves more noise than there should be hands it to
the next. The gain

.. math:: \frac{\sum_j |b_j| + \sqrt{\sum_k c_k^2}}{\alpha_t + \sigma_t}

of data weights b and noise weights c is 1 for DDIM, and tends to 1 with the length of the step for a method of any
order (were it not for slips in its weights). For data of unit size it is how many times larger than it should be the
state can become.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from scoresde.predictions import PREDICTIONS
from scoresde.rows import Mix, Row, Step

# A sum of symbols with coefficients. From 0 up the symbols are data (0: those in the state at s, then predictions of
# x0), below 0 they are independent noises of unit variance (-1: the one in the state at s).
Form = dict[int, float]
STATE_DATA, STATE_NOISE = 0, -1


def step_gain(rows: Sequence[Row], step: Step, noise: float, stochastic: bool) -> tuple[float, float]:
    """The gain of a step, and the deviation of the noise in the state that it leaves.

    Args:
        rows: of the step.
        step: as they were planned for.
        noise: deviation of the noise in the state at s, which is more than sigma if earlier steps left more.
        stochastic: whether the solver adds noise, so that the noise in its past predictions is another one.
    """
    x = anchor = {STATE_DATA: step.s.alpha, STATE_NOISE: noise}
    predictions = [_of_past(rows[0].kind, step, j, noise, stochastic) for j in range(len(step.past))]
    first_fresh = STATE_NOISE - 1 - len(step.past)

    def mix(m: Mix) -> Form:
        fresh = ((c, {first_fresh - k: 1.0}) for k, c in m.z)
        # strict=False: a mix names only the predictions that it uses.
        return _sum([(m.x, x), (m.anchor, anchor), *zip(m.d, predictions, strict=False), *fresh])

    def size(state: Form) -> tuple[float, float]:
        left = math.sqrt(math.fsum(c * c for symbol, c in state.items() if symbol < 0))
        return math.fsum(abs(c) for symbol, c in state.items() if symbol >= 0) + left, left

    most = 0.0
    for i, row in enumerate(rows):
        if row.at is not None:
            if i:
                most = max(most, math.sqrt(size(x)[0] / (row.at.alpha + row.at.sigma)))
            symbol = {1 + len(step.past) + i: 1.0}
            on_data, on_noise = PREDICTIONS[row.kind](row.at.alpha, row.at.sigma)
            if on_noise:  # the noise that this state has beside the predicted data
                share = on_noise / row.at.sigma
                symbol = _sum([(on_data - share * row.at.alpha, symbol), (share, x)])
            made = symbol if on_noise else _sum([(on_data, symbol)])
            predictions[:0] = [made] * row.made  # without guidance both of a pair are the same
        new = mix(row.x)
        anchor = new if row.anchor is None else mix(row.anchor)
        x = new
    whole, left = size(x)
    return max(most, whole / (step.t.alpha + step.t.sigma)), left


def _of_past(kind: str, step: Step, j: int, noise: float, stochastic: bool) -> Form:
    """The prediction made at past[j], in a state with the data of the state at s."""
    p = step.past[j]
    on_data, on_noise = PREDICTIONS[kind](p.alpha, p.sigma)
    if not on_noise:
        return {1 + j: on_data}
    share = on_noise * p.alpha / p.sigma
    own = STATE_NOISE - 1 - j if stochastic else STATE_NOISE
    return {1 + j: on_data - share, STATE_DATA: share, own: on_noise * noise / step.s.sigma}


def _sum(terms: Iterable[tuple[float, Form]]) -> Form:
    total: Form = {}
    for factor, form in terms:
        if factor:
            for symbol, c in form.items():
                total[symbol] = total.get(symbol, 0.0) + factor * c
    return total
