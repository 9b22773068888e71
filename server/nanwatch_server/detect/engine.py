"""Runs every rule over the blocks of one run. Called by the pipeline, one instance per run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanwatch_server.detect import died, stall
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.context import Context, Rule
from nanwatch_server.detect.ranks import Ranks
from nanwatch_server.detect.registry import ENABLED, RULES, limits
from nanwatch_server.detect.rules.nonfinite import NonFinite
from nanwatch_server.detect.running import BUFFERS
from nanwatch_server.detect.stall import Stall
from nanwatch_server.domain.models import Finding

VERSION = 8
"""Of the saved state. Another version starts afresh: windows refill within minutes."""

OF_NORMS = tuple(kind for kind in RULES if "grad_norm" in (*kind.reads, *kind.any_of))
"""Rules that also read norms which come after the rest of their attempts."""

TRAIN = "train"
"""Stage of the attempts themselves; others are evaluations."""

SLICE_STEPS = 256
"""Long blocks that came together are seen by the rules so many attempts at a time."""

READERS_MOST = 256
"""Sets of kinds whose readers are remembered."""

RESTARTS = frozenset({"fit", "task", "resume"})
"""Marks after which windows begin anew."""


class RunDetector:
    """Rules and their state for one run."""

    def __init__(
        self,
        run_id: str,
        facts: dict[str, str],
        thresholds: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.context = Context(run_id, dict(facts), limits(thresholds))
        self.ranks = Ranks(self.context)
        self.stall = Stall(run_id, self.context.limits[stall.NAME])
        self._rules: dict[tuple[str, str], Rule] = {}
        self._seen: dict[str, set[str]] = {}
        """Kinds each scope has sent."""
        self._records: dict[tuple[str, str], int] = {}
        self._readers: dict[tuple[Any, ...], tuple[type[Rule], ...]] = {}
        """Rules that read blocks of a scope that hold certain kinds, by scope and kinds."""
        self._died = -1
        """Step at which an exception of NaN ended the training, until it goes on."""
        self.on_failure: Callable[[str, Exception], None] | None = None
        """Told of a rule that failed, and the others go on; without it the error is raised."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts, oldest first."""
        if not len(block):
            return []
        self._announced(block)
        return self._update(block)

    def _update(self, block: Block) -> list[Finding]:
        alive = self._goes_on(block)
        if block.stage != TRAIN:
            return alive + self._held_out(block)
        if block.late:
            block = self.ranks.completed(block)
        else:
            self.ranks.keep(block)
        readers = self._readers_of(block)
        found = alive + ([] if block.late else self.stall.read(block))
        with np.errstate(all="ignore"):
            self._share(block)
            for kind in readers:
                found += self._ask(kind, block)
        if not block.late and "lr" in block.scalars:
            self.context.rates[block.scope].read(block)
        if found:
            found.sort(key=lambda finding: finding.step)
            self.ranks.heard(found)
        return found

    def _held_out(self, block: Block) -> list[Finding]:
        """What evaluations show, one by one; their rules read nothing else."""
        seen = self._seen.setdefault(block.scope, set())
        seen.update(f"{block.stage} {kind}" for kind in block.scalars)
        rules = [k for k in RULES if k.stage == block.stage and k.wants(block) and self._is_on(k)]
        found: list[Finding] = []
        for at in range(len(block) if rules else 0):
            one = block.part(at, at + 1)
            self.context.reward_limits = self.context.rewards.upto(one.steps)
            with np.errstate(all="ignore"):
                found += [finding for kind in rules for finding in self._ask(kind, one)]
        return found

    def _readers_of(self, block: Block) -> tuple[type[Rule], ...]:
        """Rules that read such a block of training attempts. Most blocks are alike: what they hold
        is looked at once."""
        custom = block.layers.get("custom", ((),))[0]
        key = (block.scope, block.late, *block.scalars, None, *block.layers, custom)
        readers = self._readers.get(key)
        if readers is None:
            if len(self._readers) >= READERS_MOST:
                self._readers.clear()
            self._seen.setdefault(block.scope, set()).update(block.scalars, block.layers)
            self.context.sends((*block.scalars, *block.layers))
            readers = self._readers[key] = tuple(
                kind
                for kind in RULES
                if kind.stage == TRAIN and kind.wants(block) and self._is_on(kind)
                if not block.late or kind in OF_NORMS
            )
        return readers

    def _is_on(self, kind: type[Rule]) -> bool:
        return self.context.limits[kind.name][ENABLED]

    def _ask(self, kind: type[Rule], block: Block) -> list[Finding]:
        """What one rule finds. One that fails begins anew and takes no other with it."""
        key = (kind.name, block.scope)
        self._records[key] = self._records.get(key, 0) + len(block)
        try:
            return self._rule(kind, block.scope).update(block)
        except Exception as error:
            if self.on_failure is None:
                raise
            self._rules.pop(key, None)
            self.on_failure(f"{kind.name}, scope {block.scope!r}", error)
            return []

    def feed(self, blocks: Sequence[Block]) -> list[Finding]:
        """Findings of blocks that came together: in slices, so that rules which ask another
        series how things stood see it, however long the blocks are."""
        # others ask for rewards, which are a table of their own, and who else has a loss
        for block in blocks:
            self._announced(block)
        if all(len(block) <= SLICE_STEPS for block in blocks):
            return [found for block in blocks if len(block) for found in self._update(block)]
        slices: list[tuple[int, int, Block]] = []
        for place, block in enumerate(blocks):
            cells = block.steps // SLICE_STEPS
            edges = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(block)]
            slices += [
                (int(cells[start]), place, block.part(start, stop))
                for start, stop in itertools.pairwise(edges)
                if start < stop
            ]
        slices.sort(key=lambda one: one[:2])
        return [found for *_, block in slices for found in self._update(block)]

    def _announced(self, block: Block) -> None:
        """What a block that came holds for others; answers never look past a step."""
        if block.stage != TRAIN:
            return
        if "loss" in block.scalars and not block.late and len(block):
            first = int(block.steps[0])
            known = self.context.losses_since.setdefault(block.scope, first)
            self.context.losses_since[block.scope] = min(known, first)
        self.context.rewards.learn(block)
        if "q_mean" in block.scalars and not block.late:
            self.context.values[block.scope].read(block.scalars["q_mean"], block.steps)
        if "reward" in block.scalars:
            self.context.returns.read(block.scalars["reward"], block.steps)

    def _share(self, block: Block) -> None:
        """What rules ask of each other's series."""
        context = self.context
        context.reward_limits = context.rewards.upto(block.steps)
        if "loss" in block.scalars and not block.late:
            progress = context.progress[block.scope]
            progress.read(block.scalars["loss"], block.steps)
        if BUFFERS in block.layers:
            context.buffers[block.scope].read(*block.layers[BUFFERS])

    def _rule(self, kind: type[Rule], scope: str) -> Rule:
        key = (kind.name, scope)
        if key not in self._rules:
            self._rules[key] = kind(self.context, scope)
        return self._rules[key]

    def mark(
        self, what: str, step: int, data: dict[str, str], time: float = 0.0, text: str = ""
    ) -> list[Finding]:
        """A fact that rules consume in order with the points, and what it shows by itself."""
        if died.is_exception(what, text):
            return self.died(step, time, text)
        if what == "config":
            self.context.learn(data)
        elif what == "eval":
            self.stall.pause()
        elif what in RESTARTS:
            context = self.context
            context.mark = what
            for known in (self._rules, context.progress, context.values, context.buffers):
                for one in known.values():
                    one.restart()
            context.returns.restart()
        return []

    def died(self, step: int, time: float, text: str) -> list[Finding]:
        """An exception ended the training (`text`): news if it speaks of NaN."""
        found = died.finding(self.context.run_id, step, time, text)
        if found is None or not self._is_on(NonFinite):
            return []
        self._died = step
        return [found]

    def _goes_on(self, block: Block) -> list[Finding]:
        """The all-clear of a training that died and was resumed."""
        if self._died < 0 or int(block.steps[-1]) <= self._died:
            return []
        step, self._died = self._died, -1
        return [died.over(self.context.run_id, step, float(block.times[-1]))]

    def quiet_until(self, time: float, *, live: bool = False) -> list[Finding]:
        """Nothing came until `time` (client wall clock, seconds): what the silence shows.

        `live`: the run may go on any moment, so that pauses nobody announced are forgiven longer.
        """
        if not self.stall.limits[ENABLED]:
            return []
        return self.stall.quiet_until(
            time, self.stall.limits["live_floor_s" if live else "floor_s"]
        )

    def coverage(self) -> list[dict[str, Any]]:
        """Which rules ran, which could not, and why; one entry per rule and scope."""
        entries: list[dict[str, Any]] = []
        for scope, seen in sorted(self._seen.items()) or [("", set[str]())]:
            for kind in RULES:
                records = self._records.get((kind.name, scope), 0)
                why = "" if records else kind.missing(seen) or "its kinds never came together"
                if 0 < records < kind.needs:
                    why = f"fewer than {kind.needs} records"
                why = why if self._is_on(kind) else "switched off by the limits"
                entries.append(
                    {
                        "rule": kind.name,
                        "scope": scope,
                        "ran": records >= kind.needs,
                        "records": records,
                        "why": why,
                    }
                )
        entries.append(self.stall.coverage())
        return entries

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart, as plain values msgspec can write."""
        return {
            "version": VERSION,
            "facts": dict(self.context.facts),
            "rewards": self.context.rewards.dump(),
            "died": self._died,
            "seen": {scope: sorted(kinds) for scope, kinds in self._seen.items()},
            "records": [[*key, count] for key, count in self._records.items()],
            "rules": [[*key, rule.dump()] for key, rule in self._rules.items()],
            "ranks": self.ranks.dump(),
            "stall": self.stall.dump(),
            "progress": {scope: one.dump() for scope, one in self.context.progress.items()},
            "values": {scope: one.dump() for scope, one in self.context.values.items()},
            "losses_since": dict(self.context.losses_since),
            "returns": self.context.returns.dump(),
            "rates": {scope: one.dump() for scope, one in self.context.rates.items()},
            "buffers": {scope: one.dump() for scope, one in self.context.buffers.items()},
        }

    @classmethod
    def restore(
        cls,
        run_id: str,
        facts: dict[str, str],
        state: dict[str, Any],
        thresholds: dict[str, dict[str, Any]] | None = None,
    ) -> RunDetector:
        """A detector that goes on where `state()` was taken; a fresh one if versions differ."""
        detector = cls(run_id, facts, thresholds)
        if state.get("version") != VERSION:
            return detector
        detector.context.learn(state["facts"])
        detector.context.rewards.load(state["rewards"])
        detector.stall.load(state["stall"])
        detector._died = state["died"]
        detector._seen = {scope: set(kinds) for scope, kinds in state["seen"].items()}
        detector._records = {(rule, scope): count for rule, scope, count in state["records"]}
        for scope, data in state["progress"].items():
            detector.context.progress[scope].load(data)
        for scope, data in state.get("values", {}).items():
            detector.context.values[scope].load(data)
        detector.context.returns.load(state["returns"])
        detector.context.losses_since.update(state.get("losses_since", {}))
        seen = set[str]().union(*detector._seen.values())
        detector.context.sends(kind for kind in seen if " " not in kind)
        for scope, data in state["buffers"].items():
            detector.context.buffers[scope].load(data)
        for scope, data in state["rates"].items():
            detector.context.rates[scope].load(data)
        kinds = {kind.name: kind for kind in RULES}
        for name, scope, data in state["rules"]:
            if name in kinds:  # one of a newer server's is not missed
                detector._rule(kinds[name], scope).load(data)
        if "ranks" in state:
            detector.ranks.load(state["ranks"])
        return detector
