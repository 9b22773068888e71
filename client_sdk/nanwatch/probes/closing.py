"""What is handed over when an attempt closes: its observation, what kind of training this is, and
what is measured how often.

Training thread only; called by the observer, which keeps the clock and decides what to measure.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nanwatch.control.learning_rate import factor_of
from nanwatch.probes import sharded
from nanwatch.probes.attempts import Attempt
from nanwatch.probes.clipping import Clip
from nanwatch.probes.observations import ClosedAttempt, Health
from nanwatch.probes.overhead import OFF
from nanwatch.probes.registry import Known
from nanwatch.probes.tensors import read_all
from nanwatch.ranks import group_now

if TYPE_CHECKING:
    from nanwatch.probes.observer import Observer


def closed_attempt(
    known: Known, attempt: Attempt, health: Health, loss_logged_at: int
) -> ClosedAttempt:
    """Everything known of an attempt; `loss_logged_at` is where the script logged a loss last."""
    closed = ClosedAttempt(known.scope, attempt.step, time.time(), attempt.outcome, health)
    closed.norms = known.norms
    closed.logged_loss = attempt.is_main and 0 <= loss_logged_at >= attempt.step - 1
    closed.factor = factor_of(known.optimizer)
    roots = [root for backward in attempt.backwards for root in backward.roots]
    closed.roots = tuple(value for value, _ in roots)
    closed.divisors = tuple(divisor for _, divisor in roots)
    if known.clips:
        closed.clip_threshold = _threshold(known.clips)
        closed.norm_clipped = _all_clipped_once(known)
    if known.scaler is not None:
        closed.loss_scale = _loss_scale(known.scaler())
    return closed


def _threshold(clips: Sequence[Clip]) -> float | None:
    """The last real bound: clipping at infinity only reads the norm."""
    for clip in reversed(clips):
        if not clip.by_value and math.isfinite(clip.threshold):
            return clip.threshold
    return None


def _all_clipped_once(known: Known) -> bool:
    """True if one clipping by the L2 norm took all gradients of this optimizer, and no others."""
    if len(known.clips) != 1 or len(known.free) != 1 or known.layout is None:
        return False
    share = known.free[0][0]
    return share.whole and share.indices is None and not known.layout.sharded


def _loss_scale(scaler: Any) -> Any:
    """The scaler's present scale, without waiting for a device."""
    scale = getattr(scaler, "_scale", None)
    return read_all([scale]) if scale is not None else None


COVERAGE_ATTEMPTS = 200
"""The coverage is looked at this often, and sent when it has changed."""

COVERAGE_EARLY = (20, 60)
"""So it is at these attempts, when passes have found their pace, and when the run ends."""


class Telling:
    """Marks for the rules and the page, each of them once or when it has changed."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._described: set[int] = set()
        self._told: dict[str, dict[str, str]] = {}
        """What was told of each scope."""
        self._coverage: dict[str, str] = {}
        self._main_attempts = 0
        self._attempts = self._with_norms = 0
        """Attempts since the last look, and those whose gradient norms were measured."""
        self._all_with_norms = False
        """As of the last look."""
        self.clipped_at: float | None = None
        """Bound of the script's `clip_grad_value_`."""

    def closed(self, attempt: Attempt, with_norms: bool) -> None:
        """An attempt closed: now and then it is time to look at the coverage."""
        self._attempts += 1
        self._with_norms += with_norms
        if attempt.is_main:
            self._main_attempts += 1
            count = self._main_attempts
            if count % COVERAGE_ATTEMPTS == 1 or count in COVERAGE_EARLY:
                self.coverage()

    def at_end(self) -> None:
        """The run ends: what was told may be old."""
        if self._coverage:
            self.coverage()

    def coverage(self) -> None:
        """What is measured how often, whenever that has changed."""
        observer = self._observer
        layouts = [k.layout for k in observer.registry.live() if k.layout is not None]
        spread = [layout for layout in layouts if layout.sharded]
        said = {"gradient norms": self._norms(bool(spread))}
        if spread and said["gradient norms"] != OFF:
            said["gradient norms"] = sharded.coverage(said["gradient norms"], spread)
        if (group := group_now()) is not None and group[1] > 1:
            said["loss"] = "of each rank's own batch, no mean over ranks; rules see rank 0's"
        if self.clipped_at is not None:
            said["clipping"] = f"values at {self.clipped_at:g}; norms are those before it"
        if observer.skip_guard is not None:
            said["guard"] = observer.skip_guard.coverage()
        said.update(observer.probes.coverage())
        if said != self._coverage:
            self._coverage = said
            observer.mark("coverage", "what is measured", dict(said))

    def _norms(self, common: bool) -> str:
        """How often gradient norms are measured. Clipping and the guard may give them at every
        attempt, whatever our own passes do."""
        cadence = self._observer.cadence
        if self._attempts:
            self._all_with_norms = self._with_norms == self._attempts
            self._attempts = self._with_norms = 0
        if self._all_with_norms and not cadence.alerted:
            return "every attempt"
        return cadence.text(common)

    def describe(self, known: Known, attempt: Attempt) -> None:
        """Tell the rules once what kind of training this is, as its first attempt closes."""
        if known.number in self._described or known.layout is None:
            return
        self._described.add(known.number)
        observer, optimizer = self._observer, known.optimizer
        data = {
            "scope": known.scope,
            "optimizer": type(optimizer).__name__,
            "parameters": str(sum(p.numel() for p in known.parameters())),
            "layers": str(len(known.layout.layers)),
            "weights_dtype": _dtype_of(known),
            "recurrent": "1" if observer.registry.recurrent else "0",
            "scopes": ",".join(k.scope for k in observer.registry.live() if k.scope),
        }
        if dtype := next((b.loss_dtype for b in attempt.backwards if b.loss_dtype), ""):
            data[f"loss_dtype.{known.scope}".rstrip(".")] = dtype
        if self._told.get(known.scope) == data:
            return  # the next fold: no news
        self._told[known.scope] = data
        text = f"optimizer {type(optimizer).__name__} {known.scope}".strip()
        observer.mark("config", text, data)


def _dtype_of(known: Known) -> str:
    """Format of most of the weights an optimizer steps: `float32`; empty without weights."""
    sizes: Counter[str] = Counter()
    for parameter in known.parameters():
        sizes[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    return max(sizes, key=sizes.__getitem__, default="")
