"""Limits of the rules per project: kept as a text in the store, validated before they count.

The text of `EVERY` counts in all projects; what a project says of its own stands above it.
`judge` asks for those of a run's project, `api` reads and changes them, `backtest` tries others. A
change counts from the next points on; what was found before stays found.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from nanwatch_server.detect.limits import LimitsError, read_limits
from nanwatch_server.domain.models import Principal, ProjectRules
from nanwatch_server.domain.ports import Store

_log = structlog.get_logger()

TEXT_MAX = 60_000
"""Bytes."""

EVERY = ""
"""In the place of a project: all of them."""

Limits = dict[str, dict[str, Any]]


class ChangedMeanwhileError(Exception):
    """Somebody else has changed the limits since the text at hand was read."""


class _Texts(Protocol):
    """Where texts are kept."""

    def rules(self, project: str) -> ProjectRules | None: ...


def over(below: Limits, above: Limits) -> Limits:
    """Both; of what both say, `above` counts."""
    merged = {rule: dict(values) for rule, values in below.items()}
    for rule, values in above.items():
        merged.setdefault(rule, {}).update(values)
    return merged


def limits_of(texts: _Texts, project: str, tried: ProjectRules | None = None) -> Limits:
    """What counts in a project; `tried` in the place of the stored text of its project."""
    stored = {one: texts.rules(one) or ProjectRules(project=one) for one in {EVERY, project}}
    if tried is not None and tried.project in stored:
        stored[tried.project] = tried
    return over(_read(stored[EVERY]), {} if project == EVERY else _read(stored[project]))


def _read(rules: ProjectRules) -> Limits:
    try:
        return read_limits(rules.text)
    except LimitsError as error:  # a rule of an earlier version that is gone
        _log.error("limits of a project do not count", project=rules.project, error=str(error))
        return {}


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
        self._lock, self._changing = threading.Lock(), threading.Lock()
        self._known: dict[str, Limits] = {}

    def text(self, project: str) -> ProjectRules:
        """As it was written; empty if the project has none of its own."""
        return self._store.rules(project) or ProjectRules(project=project)

    def of(self, project: str) -> Limits:
        """Rule → limit → value, of those that are not the packaged ones in this project."""
        with self._lock:
            if project not in self._known:
                self._known[project] = limits_of(self._store, project)
            return self._known[project]

    def change(
        self, project: str, text: str, by: Principal, since: float | None = None
    ) -> ProjectRules:
        """Other limits from now on. Raises `LimitsError`, which names the line.

        `since`: when the text that was changed had been written (0: never); raises
        `ChangedMeanwhileError` if there is a newer one.
        """
        limits = checked(text)
        with self._changing:
            known = self.text(project)
            if since is not None and known.updated_at != since:
                raise ChangedMeanwhileError(
                    f"{known.updated_by} has changed these limits meanwhile: load them again, "
                    "then make your change"
                )
            rules = ProjectRules(
                project=project, text=text, updated_at=self._clock(), updated_by=by.actor
            )
            said = {f"{rule}.{key}": str(value) for rule, of in limits.items()
                    for key, value in of.items()}  # fmt: skip
            with self._store.write() as uow:
                uow.put_rules(rules)
                uow.audit(
                    at=rules.updated_at,
                    actor=by.actor,
                    role=by.role,
                    via=by.via,
                    action="rules.change",
                    target=project,
                    detail={"limits": said},
                )
        with self._lock:
            self._known.clear()
        self.changed(project)
        return rules


def checked(text: str) -> Limits:
    """What a text says. Raises `LimitsError`."""
    size = len(text.encode())
    if size > TEXT_MAX:
        raise LimitsError(0, f"expected at most {TEXT_MAX} bytes of limits, got {size}")
    return read_limits(text)
