"""Limits of the rules per project: kept as a text in the store, validated before they count.

`judge` asks for those of a run's project, `api` reads and changes them. A change counts from the
next points on; what was found before stays found.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog

from nanwatch_server.detect.limits import LimitsError, read_limits
from nanwatch_server.domain.models import Principal, ProjectRules
from nanwatch_server.domain.ports import Store

_log = structlog.get_logger()

TEXT_MAX = 64_000
Limits = dict[str, dict[str, Any]]


class Rulebook:
    """What each project changes of the packaged limits. Any thread."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        changed: Callable[[str], None] = lambda project: None,
    ) -> None:
        self._store, self._clock, self.changed = store, clock, changed
        """`changed` is called with the project once other limits are stored."""
        self._lock = threading.Lock()
        self._known: dict[str, Limits] = {}

    def text(self, project: str) -> ProjectRules:
        """As it was written; empty if the project has none of its own."""
        return self._store.rules(project) or ProjectRules(project=project)

    def of(self, project: str) -> Limits:
        """Rule → limit → value, of those that the project changes."""
        with self._lock:
            if project not in self._known:
                self._known[project] = self._read(project)
            return self._known[project]

    def change(self, project: str, text: str, by: Principal) -> ProjectRules:
        """Other limits from now on. Raises `LimitsError`, which names the line."""
        if len(text) > TEXT_MAX:
            raise LimitsError(0, f"expected at most {TEXT_MAX} characters, got {len(text)}")
        limits = read_limits(text)
        rules = ProjectRules(
            project=project, text=text, updated_at=self._clock(), updated_by=by.actor
        )
        with self._store.write() as uow:
            uow.put_rules(rules)
            uow.audit(
                at=rules.updated_at,
                actor=by.actor,
                role=by.role,
                via=by.via,
                action="rules.change",
                target=project,
                detail={"limits": {f"{r}.{k}": str(v) for r, of in limits.items()
                                   for k, v in of.items()}},
            )  # fmt: skip
        with self._lock:
            self._known[project] = limits
        self.changed(project)
        return rules

    def _read(self, project: str) -> Limits:
        try:
            return read_limits(self.text(project).text)
        except LimitsError as error:  # a rule of an earlier version that is gone
            _log.error("limits of a project do not count", project=project, error=str(error))
            return {}
