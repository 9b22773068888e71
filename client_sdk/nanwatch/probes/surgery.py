"""Gradients of parts that a script takes and clears before one step (PCGrad, CAGrad): not skips.

`zero_grad(); part.backward(retain_graph=True)` for each part, then one step with what was made of
them. Taking gradients calls nothing of ours, so the sign is the pattern: the same number of passes
that kept their graph is cleared before each of some steps. Pure; `probes.attempts` asks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Backward

STEPS_ALIKE = 5
"""So many steps in a row with the same number of cleared passes are the pattern."""


class Surgery:
    """Cleared passes of one optimizer."""

    __slots__ = ("_alike", "_cleared", "_held", "_usual")

    def __init__(self) -> None:
        self._held: list[Backward] = []
        """Cleared passes that the next step will take along."""
        self._cleared = self._usual = self._alike = 0

    def takes(self, passes: list[Backward]) -> bool:
        """True if these passes, just cleared, are parts of the attempt that goes on."""
        if not all(one.retained for one in passes):
            return False
        self._cleared += len(passes)
        if self._alike < STEPS_ALIKE or self._cleared > self._usual:
            return False
        self._held += passes
        return True

    def stepped(self) -> list[Backward]:
        """The optimizer steps: the passes that belong to it."""
        alike = self._cleared == self._usual and self._cleared > 0
        self._alike = self._alike + 1 if alike else 0
        self._usual, self._cleared = self._cleared, 0
        return self.let_go()

    def let_go(self) -> list[Backward]:
        """Passes that were held, and no longer are."""
        held, self._held = self._held, []
        return held
