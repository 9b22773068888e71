"""Bases of rules that keep the last records of a few series and judge them on a fixed grid.

A rule says what it reads, how its present records are to be judged, and its words; batches,
holes, hysteresis and restarts are dealt with here. Rules live in `rules/`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.alarm import Alarm, severities_of
from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.context import Context, Rule, Said, cleared, finding
from nanwatch_server.detect.progress import Progress
from nanwatch_server.detect.robust import TICK, Ring, fed
from nanwatch_server.domain.models import Finding

AHEAD = 256
"""Records that are written into the windows at once; at least as many as lie between two ticks."""

CLEAR_EVALUATIONS = 5
"""Evaluations without the condition before the all-clear."""


class Verdict(NamedTuple):
    """What a rule thinks of the present record."""

    severity: int
    """0 nothing, 1 to 3 as `Severity`, `alarm.KEEP` to hold an alarm up."""
    onset: int = -1
    """First step at which it shows; -1: here."""
    said: Said | None = None
    """Needed where the severity is 1 or more."""


QUIET = Verdict(0)


class SpeakingRule(Rule):
    """A rule with one alarm, whose verdicts hold its words."""

    calm: ClassVar[str] = ""
    """Words of the all-clear."""
    kind: ClassVar[str] = ""
    """The kind it speaks of."""

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.alarm = Alarm()

    @property
    def progress(self) -> Progress:
        """How the loss of this scope went."""
        return self.context.progress_of(self.scope)

    def speak(
        self, block: Block, severities: NDArray[np.int8], verdicts: dict[int, Verdict]
    ) -> list[Finding]:
        """Severities of the records through the alarm; its events in the rule's words."""
        found: list[Finding] = []
        for event in self.alarm.sweep(severities):
            if event.what == "clear":
                said = cleared(self.calm, self.kind, self.alarm)
            else:
                verdict = verdicts[event.at]
                assert verdict.said is not None
                said = verdict.said
                if event.fresh:
                    here = int(block.steps[event.at])
                    self.alarm.onset = verdict.onset if verdict.onset >= 0 else here
            found.append(finding(self.context, self.name, block, event, self.alarm.onset, said))
        return found


class TickRule(SpeakingRule):
    """Judged after every 8 (or `every`) finite records of the first kind of `reads`."""

    beside: ClassVar[tuple[str, ...]] = ()
    """Kinds kept beside it where they come with it; NaN where they do not."""
    keep: ClassVar[int] = 128
    """Records kept."""
    needs = 8
    """Records before anything is judged."""
    every: ClassVar[int] = TICK
    """Judged after so many records; a multiple of 8 below the 200 of the all-clear."""
    OWN: ClassVar[tuple[str, ...]] = ()
    """Attributes of the rule itself that must survive a restart."""

    def __init_subclass__(cls) -> None:
        cls.kind = cls.reads[0] if cls.reads else cls.kind
        cls.STATE = ("alarm", "rings", "trail", *cls.OWN)

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self._fresh()

    def _fresh(self) -> None:
        self.rings = Ring(1 + len(self.beside), self.keep, ahead=AHEAD)
        self.trail = Ring(1, self.keep, np.int64, ahead=AHEAD)
        self.begin()

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` gave; kinds that an older server did not keep beside it are new."""
        super().load(data)
        known = self.rings.rows
        if (missing := 1 + len(self.beside) - known) > 0:
            self.rings.select([*range(known), *[-1] * missing])

    def begin(self) -> None:
        """Set the attributes named in `OWN` as they are before the first record."""

    def judge(self) -> Verdict:
        """The verdict on the records kept."""
        raise NotImplementedError

    # --- what `judge` looks at -------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Records seen since the windows began."""
        return self.rings.count

    def last(self, n: int, kind: str = "") -> F64:
        """The last `n` values of the main kind, or of one beside it. A view."""
        row = 1 + self.beside.index(kind) if kind else 0
        return self.rings.window(n)[row]

    def steps(self, n: int) -> I64:
        """Steps of the last `n` records. A view."""
        return self.trail.window(n)[0]

    @property
    def step(self) -> int:
        """Step of the newest record."""
        return int(self.trail.window(1)[0, -1])

    # --- from blocks to findings -----------------------------------------------------------------

    def values(self, block: Block) -> F64:
        """The main series; f64[n]."""
        return block.scalars[self.reads[0]]

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        main = self.values(block)
        verdicts = self._one(block, main) if len(main) == 1 else self._several(block, main)
        levels = {at: verdict.severity for at, verdict in verdicts.items()}
        if self.alarm.rests(len(main), levels.values()):
            return []  # nearly always
        return self.speak(block, severities_of(main, levels), verdicts)

    def _one(self, block: Block, main: F64) -> dict[int, Verdict]:
        """`_several` for a single attempt, as live trainings send them."""
        value = main.item()
        if not math.isfinite(value):
            return {}
        scalars = block.scalars
        beside = (scalars[kind].item() if kind in scalars else math.nan for kind in self.beside)
        self.rings.put((value, *beside))
        self.trail.put(block.steps.tolist())
        if self.count % self.every or self.count < self.needs:
            return {}
        return {0: self.judge()}

    def _several(self, block: Block, main: F64) -> dict[int, Verdict]:
        """Into the windows; the verdicts at ticks, by position in the block."""
        known = np.flatnonzero(np.isfinite(main))
        rows, trail = main[None, :], block.steps[None, :]
        if self.beside:
            missing = np.full(len(block), np.nan)
            rows = np.stack([main, *(block.scalars.get(kind, missing) for kind in self.beside)])
        if len(known) < len(block):
            rows, trail = rows[:, known], trail[:, known]
        verdicts: dict[int, Verdict] = {}
        for _, stop, tick in fed([(self.rings, rows), (self.trail, trail)], self.every):
            if tick and self.count >= self.needs:
                verdicts[int(known[stop - 1])] = self.judge()
        return verdicts

    def restart(self) -> None:
        """Windows begin anew; an alarm that is up stays up until it is clear."""
        self._fresh()


class EvaluationRule(SpeakingRule):
    """Judged at every evaluation: the losses of the stage `val`."""

    kind = "loss"
    reads = ("loss",)
    stage = "val"

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.alarm.clear = CLEAR_EVALUATIONS
        self.restart()

    def judge(self, loss: float, step: int) -> Verdict:
        """The verdict on one more evaluation."""
        raise NotImplementedError

    def update(self, block: Block) -> list[Finding]:
        """Findings of these evaluations."""
        losses = block.scalars["loss"]
        verdicts = {
            at: self.judge(float(losses[at]), int(block.steps[at]))
            for at in np.flatnonzero(np.isfinite(losses)).tolist()
        }
        levels = {at: verdict.severity for at, verdict in verdicts.items()}
        return self.speak(block, severities_of(losses, levels), verdicts)


class LayerRule(SpeakingRule):
    """Judged at the records of a kind per layer, which are measured now and then."""

    keep: ClassVar[int] = 32
    """Records kept."""
    every: ClassVar[int] = 1
    """Judged after so many records."""
    OWN: ClassVar[tuple[str, ...]] = ()
    """Attributes of the rule itself that must survive a restart."""

    def __init_subclass__(cls) -> None:
        assert cls.every <= cls.keep, "records are placed in the ring before they are judged"
        cls.reads = (cls.kind,)
        cls.STATE = ("alarm", "names", "ring", "trail", *cls.OWN)

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self._fresh()

    def _fresh(self) -> None:
        self.names: tuple[str, ...] = ()
        self.ring = Ring(0, self.keep)
        self.trail = Ring(1, self.keep, np.int64)
        self.begin()

    def begin(self) -> None:
        """Set the attributes named in `OWN` as they are before the first record."""

    def judge(self) -> Verdict:
        """The verdict on the records kept."""
        raise NotImplementedError

    def last(self, n: int) -> F64:
        """f64[layers, n]: the last `n` records; NaN where a layer was not measured. A view."""
        return self.ring.window(n)

    @property
    def step(self) -> int:
        """Step of the newest record."""
        return int(self.trail.window(1)[0, -1])

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        values = self._aligned(*block.layers[self.kind])
        verdicts: dict[int, Verdict] = {}
        pairs = [(self.ring, values), (self.trail, block.steps[None, :])]
        for _, stop, tick in fed(pairs, self.every):
            if tick:
                verdicts[stop - 1] = self.judge()
        levels = {at: verdict.severity for at, verdict in verdicts.items()}
        if self.alarm.rests(len(block), levels.values()):
            return []  # nearly always
        return self.speak(block, severities_of(np.zeros(len(block)), levels), verdicts)

    def _aligned(self, names: tuple[str, ...], values: F64) -> F64:
        """Values in the order of the known layers, of which new ones are taken up.

        Large models are measured a part of the layers at a time.
        """
        if names == self.names:
            return values
        row_of = {name: row for row, name in enumerate(self.names)}
        fresh = [name for name in names if name not in row_of]
        if fresh:
            self.ring.select([*range(len(self.names)), *[-1] * len(fresh)])
            self.names = (*self.names, *fresh)
            row_of = {name: row for row, name in enumerate(self.names)}
        placed = np.full((len(self.names), values.shape[1]), np.nan)
        placed[[row_of[name] for name in names]] = values
        return placed

    def restart(self) -> None:
        """Windows begin anew."""
        self._fresh()
