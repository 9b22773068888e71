"""A log somebody has, through the rules: `nanwatch check`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nanwatch.contract.frames import Mark
from nanwatch_server.backtest.trial import Trial, Verdict
from nanwatch_server.importers.rows import Item, Windows
from nanwatch_server.importers.source import Source


class Reading:
    """One source and what the rules have made of it so far."""

    def __init__(
        self,
        source: Source,
        facts: dict[str, str],
        thresholds: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.source = source
        self.trial = Trial(dict(facts), thresholds)
        self._told = dict(facts)
        """Facts that a person said: they win over the log's."""
        self._known: dict[str, str] = {}
        self._windows = Windows(source.rows.series)

    def take(self, items: Iterable[Item], *, whole: bool = False) -> None:
        """Judge more of the log; `whole`: as far as it goes, also a window that is not full."""
        parts = list(self._windows.feed(items))
        if whole:
            parts += self._windows.flush()
        self.trial.clock = bool(self.source.rows.clock)
        self._learn(self.source.config)
        for part in parts:
            if isinstance(part, Mark):
                if part.what == "config":
                    self._learn(part.data)
                else:
                    self.trial.mark(part)
            else:
                self.trial.window(part)

    def _learn(self, facts: dict[str, str]) -> None:
        fresh = {k: v for k, v in facts.items() if self._known.get(k) != v and k not in self._told}
        if fresh:
            self._known |= fresh
            self.trial.mark(Mark(what="config", step=0, time=0.0, data=fresh))

    def read(self) -> None:
        """Judge what there is now."""
        for items in self.source.read():
            self.take(items)

    def finish(self) -> Verdict:
        """The end of the log."""
        self.take(self.source.finish(), whole=True)
        end = getattr(self.source, "end", None)
        if end is not None:
            self.trial.quiet_until(end)
        return self.trial.verdict()
