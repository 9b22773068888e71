"""Notifications as one part of the server: what `app` makes, starts and ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from nanwatch_server.domain.models import Incident
from nanwatch_server.domain.ports import Store, UnitOfWork
from nanwatch_server.notify.book import Book
from nanwatch_server.notify.channels import Couriers
from nanwatch_server.notify.message import Link
from nanwatch_server.notify.outbox import Outbox
from nanwatch_server.notify.worker import Notifier


class Notifications:
    """Outbox, worker and couriers around one store. `book` is for the API."""

    def __init__(
        self,
        store: Store,
        link: Link,
        *,
        allow_local: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._couriers = Couriers(allow_local=allow_local)
        self._outbox = Outbox(store, clock)
        self._notifier = Notifier(store, self._couriers, link, clock)
        self.book = Book(store, self._outbox, self._couriers, link, clock)

    def note(self, uow: UnitOfWork, incident: Incident) -> None:
        """Called in the transaction that stores an incident."""
        self._outbox.note(uow, incident)

    def wake(self) -> None:
        """Called after that transaction."""
        self._notifier.wake()

    def start(self) -> None:
        """Begin, with what an earlier server left."""
        self._notifier.start()

    def close(self) -> None:
        """Stop; what has not arrived waits for the next server."""
        self._notifier.close()
