"""Channels, routes and deliveries in the database: the parts of `writes` and `reads` for them.

Not here: what is told to whom and when (`notify`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, delete, func, select, update

from nanwatch_server.domain.models import Severity
from nanwatch_server.domain.notify import Channel, Delivery, Route
from nanwatch_server.store import tables as t
from nanwatch_server.store.rows import pack, unpack

_OUT = t.notify_outbox.c


def _values(delivery: Delivery) -> dict[str, Any]:
    values = asdict(delivery)
    del values["n"]
    return values | {"severity": int(delivery.severity), "quiet": int(delivery.quiet)}


def _delivery(row: Row) -> Delivery:
    values = dict(row._mapping)
    values |= {"severity": Severity(row.severity), "quiet": bool(row.quiet)}
    return Delivery(**values)


class NoticeWrites:
    """Implements `domain.ports.NoticeWrites`; mixed into `SqlUnit`."""

    _db: Connection

    def _upsert(self, table: Table, key: list[str], row: dict[str, Any]) -> None:
        raise NotImplementedError

    def _insert_or_ignore(self, table: Table, key: list[str], row: dict[str, Any]) -> bool:
        raise NotImplementedError

    def _exists(self, run_id: str) -> None:
        raise NotImplementedError

    def put_channel(self, channel: Channel) -> None:
        """Insert or replace by `id`."""
        self._upsert(t.notify_channels, ["id"], {"id": channel.id, "body": pack(channel)})

    def delete_channel(self, channel_id: str, now: float) -> None:
        """With its routes; what waits for it is skipped."""
        self._db.execute(delete(t.notify_channels).where(t.notify_channels.c.id == channel_id))
        self._db.execute(delete(t.notify_routes).where(t.notify_routes.c.channel_id == channel_id))
        waits = (_OUT.channel_id == channel_id) & (_OUT.state == "waiting")
        self._finish(waits, "skipped", "the channel was deleted", now)

    def _finish(self, which: Any, state: str, detail: str, now: float) -> int:
        changed = update(t.notify_outbox).where(which)
        return self._db.execute(changed.values(state=state, detail=detail, done_at=now)).rowcount

    def put_route(self, route: Route) -> None:
        """Insert or replace by `id`."""
        row = {"id": route.id, "channel_id": route.channel_id, "body": pack(route)}
        self._upsert(t.notify_routes, ["id"], row)

    def delete_route(self, route_id: str) -> None:
        """What it sent on its way already still arrives."""
        self._db.execute(delete(t.notify_routes).where(t.notify_routes.c.id == route_id))

    def add_delivery(self, delivery: Delivery) -> bool:
        """Insert or ignore by `key`; True if it was new."""
        self._exists(delivery.run_id)
        return self._insert_or_ignore(t.notify_outbox, ["key"], _values(delivery))

    def put_delivery(self, delivery: Delivery) -> None:
        """Replace by `key`; nothing if the row is gone."""
        changed = update(t.notify_outbox).where(_OUT.key == delivery.key)
        self._db.execute(changed.values(**_values(delivery)))

    def deliveries_of(self, incident_id: str, channel_id: str) -> list[Delivery]:
        """What this channel was or will be told of an incident, oldest first."""
        ours = (_OUT.incident_id == incident_id) & (_OUT.channel_id == channel_id)
        query = select(t.notify_outbox).where(ours).order_by(_OUT.n)
        return [_delivery(row) for row in self._db.execute(query)]

    def trim_deliveries(self, before: float, *, keep: int, waiting_max: int, now: float) -> int:
        """Old and surplus rows go; of too many that wait the oldest fail."""
        waits = _OUT.state == "waiting"
        newest = select(_OUT.n).order_by(_OUT.n.desc())
        last = self._db.execute(newest.where(~waits).offset(keep).limit(1)).scalar() or 0
        done = delete(t.notify_outbox).where(
            ~waits & ((_OUT.created_at < before) | (_OUT.n <= last))
        )
        rows = self._db.execute(done).rowcount
        last = self._db.execute(newest.where(waits).offset(waiting_max).limit(1)).scalar() or 0
        if last:
            said = f"more than {waiting_max} messages were waiting"
            rows += self._finish(waits & (_OUT.n <= last), "failed", said, now)
        return rows


class NoticeReads:
    """Implements `domain.ports.NoticeReads`; mixed into `Reads`."""

    def _all(self, query: Select) -> list[Row]:
        raise NotImplementedError

    def _first(self, query: Select) -> Row | None:
        raise NotImplementedError

    def channels(self) -> list[Channel]:
        """Oldest first."""
        table = t.notify_channels
        query = select(table.c.body).order_by(table.c.n)
        return [unpack(row.body, Channel) for row in self._all(query)]

    def routes(self) -> list[Route]:
        """Oldest first."""
        table = t.notify_routes
        query = select(table.c.body).order_by(table.c.n)
        return [unpack(row.body, Route) for row in self._all(query)]

    def deliveries(
        self, *, run_id: str = "", channel_id: str = "", limit: int = 100, after: int = 0
    ) -> list[Delivery]:
        """Newest first; `after` is the `n` of the last one seen."""
        query = select(t.notify_outbox).order_by(_OUT.n.desc()).limit(limit)
        if run_id:
            query = query.where(_OUT.run_id == run_id)
        if channel_id:
            query = query.where(_OUT.channel_id == channel_id)
        if after:
            query = query.where(_OUT.n < after)
        return [_delivery(row) for row in self._all(query)]

    def due_channels(self, now: float) -> list[str]:
        """Ids of channels for which something waits that may be sent."""
        due = (_OUT.state == "waiting") & (_OUT.due_at <= now)
        return [row.channel_id for row in self._all(select(_OUT.channel_id).where(due).distinct())]

    def due_deliveries(self, now: float, limit: int, channel_id: str = "") -> list[Delivery]:
        """Those that wait and may be sent (to one channel), oldest first."""
        due = (_OUT.state == "waiting") & (_OUT.due_at <= now)
        query = select(t.notify_outbox).where(due).order_by(_OUT.n).limit(limit)
        if channel_id:
            query = query.where(_OUT.channel_id == channel_id)
        return [_delivery(row) for row in self._all(query)]

    def next_due(self) -> float | None:
        """When the next one may be sent; None if none waits."""
        first = select(func.min(_OUT.due_at).label("at")).where(_OUT.state == "waiting")
        row = self._first(first)
        return None if row is None else row.at

    def last_sent(self, channel_id: str, run_id: str) -> float:
        """When this channel was last told of this run; 0 if never."""
        about = (_OUT.channel_id == channel_id) & (_OUT.run_id == run_id)
        told = about & _OUT.state.in_(("sent", "merged"))
        row = self._first(select(func.max(_OUT.done_at).label("at")).where(told))
        return 0.0 if row is None or row.at is None else row.at
