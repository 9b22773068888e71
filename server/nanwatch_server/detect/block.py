"""The unit that rules read: consecutive attempts of one scope. Made by the pipeline's intake.

No behaviour beyond slicing lives here; what is done with the numbers is in `rules/`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """`n` consecutive attempts of one scope.

    A kind that was not measured is absent; a value that was measured and is not finite is NaN
    or an infinity and is data like any other.
    """

    scope: str
    stage: str
    steps: I64
    """i64[n]: attempt numbers, rising."""
    times: F64
    """f64[n]: the client's wall clock."""
    scalars: dict[str, F64] = field(default_factory=dict)
    """kind → f64[n]."""
    layers: dict[str, tuple[tuple[str, ...], F64]] = field(default_factory=dict)
    """kind → (layer names, f64[k, n])."""
    late: bool = False
    """True for norms that come after the rest of their attempts (put together from all ranks);
    the other kinds are repeated for rules that look at both."""

    def __len__(self) -> int:
        return len(self.steps)

    def part(self, start: int, stop: int) -> Block:
        """The attempts `start` to `stop` (positions, not steps); shares memory."""
        cut = slice(start, stop)
        return Block(
            self.scope,
            self.stage,
            self.steps[cut],
            self.times[cut],
            {kind: values[cut] for kind, values in self.scalars.items()},
            {kind: (names, values[:, cut]) for kind, (names, values) in self.layers.items()},
            self.late,
        )
