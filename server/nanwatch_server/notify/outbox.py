"""Writes what is to be said into the outbox, in the transaction of the incident.

Called by the pipeline for every incident that has changed, so a storm of findings must cost next to
nothing here: a row is added once for each incident, severity and channel. `worker` sends.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from nanwatch_server.domain.models import Incident
from nanwatch_server.domain.notify import Route
from nanwatch_server.domain.ports import Store, UnitOfWork
from nanwatch_server.notify import routing

REMEMBERED_MAX = 4_096


class Outbox:
    """The routes as they are now, and what is known to be in the outbox already."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._routes: tuple[Route, ...] = ()
        self._settled: OrderedDict[str, float] = OrderedDict()
        """Key of a delivery → until when there is nothing to be done for it."""
        self.reload()

    def reload(self) -> None:
        """Somebody has changed channels or routes."""
        enabled = {channel.id for channel in self._store.channels() if channel.enabled}
        self._routes = tuple(
            route for route in self._store.routes() if route.enabled and route.channel_id in enabled
        )

    def note(self, uow: UnitOfWork, incident: Incident) -> None:
        """The incident is being stored in this transaction: so is what is to be said of it."""
        routes = self._routes
        if not routes:
            return
        run = uow.run(incident.run_id) if any(route.project for route in routes) else None
        now = self._clock()
        project = "" if run is None else run.project
        for fresh in routing.deliveries(incident, project, routes, now):
            if self._settled.get(fresh.key, 0.0) > now:
                continue
            later = None
            if incident.reopened or fresh.what == "resolved":
                earlier = uow.deliveries_of(fresh.incident_id, fresh.channel_id)
                later = routing.is_news(fresh, earlier)
            if later is not None:
                self._settle(fresh.key, later)
            elif not uow.add_delivery(fresh):
                # Only now is it certain that the row is there: the transaction that added it might
                # have failed.
                self._settle(fresh.key, float("inf"))

    def _settle(self, key: str, until: float) -> None:
        self._settled[key] = until
        self._settled.move_to_end(key)
        if len(self._settled) > REMEMBERED_MAX:
            self._settled.popitem(last=False)
