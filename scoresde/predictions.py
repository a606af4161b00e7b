r"""The ways in which a network can state what it predicts, and how to go from one to another.

Every kind of prediction is linear in the denoised sample :math:`x_0` and the noise :math:`\epsilon`, and so is the
noisy sample :math:`x = \alpha x_0 + \sigma \epsilon` itself. Any kind is then a mix of x and any other kind, with two
numbers that depend on :math:`(\alpha, \sigma)` only:

============ ============================================== ==========================
kind         definition                                     :math:`(u, w)` in
                                                            :math:`u x_0 + w \epsilon`
============ ============================================== ==========================
``x0``       the denoised sample                            :math:`(1, 0)`
``epsilon``  the noise                                      :math:`(0, 1)`
``score``    :math:`\nabla\log p_t(x) = -\epsilon/\sigma`   :math:`(0, -1/\sigma)`
``v``        :math:`\alpha\epsilon - \sigma x_0`            :math:`(-\sigma, \alpha)`
``flow``     :math:`\epsilon - x_0`                         :math:`(-1, 1)`
``unit-v``   v/r with :math:`r^2 = \alpha^2 + \sigma^2`        :math:`(-\sigma, \alpha)/r`
============ ============================================== ==========================

``v`` is that of Salimans & Ho (2022, arXiv:2202.00512); ``flow`` is the velocity of a rectified flow (Liu et al. 2022,
arXiv:2209.03003), for which :math:`\alpha = 1 - \sigma`. ``unit-v`` is v where :math:`\alpha^2 + \sigma^2 = 1`, and
depends on :math:`\sigma/\alpha` only: with its sign changed it is the raw output of an EDM network for data of unit
variance (Karras et al. 2022, arXiv:2206.00364, Table 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch

from scoresde.errors import choose

Number = TypeVar("Number", float, torch.Tensor)

# kind -> (u, w) at (alpha, sigma). One line a kind.
PREDICTIONS: dict[str, Callable] = {
    "x0": lambda a, s: (1.0, 0.0),
    "epsilon": lambda a, s: (0.0, 1.0),
    "score": lambda a, s: (0.0, -1.0 / s),
    "v": lambda a, s: (-s, a),
    "flow": lambda a, s: (-1.0, 1.0),
    "unit-v": lambda a, s: (-s / (a * a + s * s) ** 0.5, a / (a * a + s * s) ** 0.5),
}


class Precondition(Protocol):
    """x0 = c_skip x + c_out F(c_in x), F being a network; :class:`scoresde.EDMPrecond` is one.

    Where a kind of prediction is asked for, it stands for what F gives.
    """

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any, Any]:
        """(c_in, c_skip, c_out) at a noise level; floats or tensors."""
        ...


Kind = str | Precondition


def convert(source: Kind, wanted: str, alpha: Number, sigma: Number) -> tuple[Number, Number]:
    """Coefficients ``(on_x, on_prediction)`` that turn one kind of prediction into another.

    ``wanted = on_x * x + on_prediction * source`` at the noise level (alpha, sigma).

    Args:
        source, wanted: names from :data:`PREDICTIONS`; or source is a :class:`Precondition`.
        alpha, sigma: floats, or float64 tensors of one shape.

    Raises:
        ValueError: an unknown kind; or float arguments at which the conversion does not exist: ``epsilon`` and
            ``score`` say nothing about x0 where alpha = 0, and x0 says nothing about the noise where sigma = 0.
    """
    if not isinstance(source, str):
        _, c_skip, c_out = source.coefficients(alpha, sigma)
        on_x, on_x0 = convert("x0", wanted, alpha, sigma)
        return on_x + on_x0 * c_skip, on_x0 * c_out
    of_source = choose(source, PREDICTIONS, "prediction")
    of_wanted = choose(wanted, PREDICTIONS, "prediction")
    if source == wanted:
        return 0.0 * sigma, 1.0 + 0.0 * sigma
    if not isinstance(sigma, torch.Tensor):
        _check(source, wanted, float(alpha), float(sigma))
    (u, w), (to_u, to_w) = of_source(alpha, sigma), of_wanted(alpha, sigma)
    # Cramer's rule for a (alpha, sigma) + b (u, w) = (to_u, to_w); alpha w and -sigma u have one sign: no cancellation.
    det = alpha * w - sigma * u
    return (to_u * w - to_w * u) / det, (alpha * to_w - sigma * to_u) / det


def _check(source: str, wanted: str, alpha: float, sigma: float) -> None:
    if sigma == 0.0 and (source in ("x0", "score") or wanted == "score"):
        raise ValueError(
            f"prediction {source!r} cannot become {wanted!r} where sigma = 0: there is no noise in the sample; "
            "evaluate at a positive noise level"
        )
    if alpha == 0.0 and source in ("epsilon", "score") and wanted not in ("epsilon", "score"):
        raise ValueError(
            f"prediction {source!r} cannot become {wanted!r} where alpha = 0: at zero signal-to-noise ratio it says "
            "nothing about x0; use a network with prediction 'x0', 'v' or 'flow', or a process with alpha(T) > 0"
        )
