"""Where the noises of a run come from: independent draws, a Brownian path, or the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from scoresde.brownian import BrownianPath
from scoresde.errors import choose
from scoresde.noise import normal
from scoresde.rows import Span
from scoresde.sde import Point

NoiseSource = Callable[[int], Tensor]  # k -> standard normal noise of the state's shape
NOISES = {"independent": "independent", "path": "path"}


class NoisePath(Protocol):
    """A Brownian path, or what acts as one: :class:`scoresde.BrownianPath` and :class:`scoresde.BrownianGrid` do."""

    def increment(self, s: Point, t: Point) -> Tensor:
        """Noise of the step from s to the less noisy t, standard normal, independent for steps that do not overlap."""
        ...


Noise = str | NoiseSource | NoisePath


class Noises:
    """Where the noises of a run come from.

    Args:
        source: "independent" (also None), "path", a function of k, or a path.
        seed, index: what the noises that are drawn here depend on.
        x: a state of the run, whose shape, dtype and device they have.

    Raises:
        ValueError: an unknown name.
        TypeError: neither a name, nor a function, nor a path.
    """

    def __init__(self, source: Noise | None, seed: int, index: int | Sequence[int], x: Tensor) -> None:
        self.seed, self.index = seed, index
        self._function: NoiseSource | None = None
        self._path: NoisePath | None = None
        if source is None or isinstance(source, str):
            self.mode = choose("independent" if source is None else source, NOISES, "noise")
            if self.mode == "path":
                self._path = BrownianPath(x.shape, seed, index, dtype=x.dtype, device=x.device)
            return
        self.mode = "user"
        if hasattr(source, "increment"):
            self._path = source  # type: ignore[assignment]
        elif callable(source):
            self._function = source
        else:
            raise TypeError(
                "noise must be 'independent', 'path', a function of k, or a path with increment(s, t); "
                f"got {type(source).__name__}"
            )

    def draw(self, k: int, span: Span | None, x: Tensor) -> Tensor:
        """Noise k, which is the increment of a path over the span if it has one, like the state x."""
        if self._function is not None:
            return self._checked(self._function(k), f"noise({k})", x)
        if self._path is not None and span is not None:
            return self._checked(self._path.increment(*span), f"noise.increment of noise {k}", x)
        # Stream 0 draws initial states, so that noise k never equals x_T.
        return normal(x.shape, self.seed, self.index, 1 + k, dtype=x.dtype, device=x.device)

    @staticmethod
    def _checked(noise: Any, what: str, x: Tensor) -> Tensor:
        if not isinstance(noise, Tensor) or noise.shape != x.shape:
            got = tuple(noise.shape) if isinstance(noise, Tensor) else type(noise).__name__
            raise ValueError(f"{what} must be a tensor of shape {tuple(x.shape)}, like the state; got {got}")
        return noise.to(x)
