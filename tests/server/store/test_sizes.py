"""How much room runs take: summed up in the database, told per run and project."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import text

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import Stream
from nanwatch_server.store import retention
from nanwatch_server.store.removal import remove_run
from nanwatch_server.store.sizes import Size, Sizes
from tests.server.store.test_chunks import RUN
from tests.server.store.test_lifecycle import BY, DAY, Life, fill


@pytest.fixture
def life(place):
    return Life(place)


def sizes_of(life, clock=time.time) -> Sizes:
    return Sizes(life.store, life.where.directory, life.where.directory / "backups", None, clock)


def measured(sizes: Sizes) -> dict:
    end = time.monotonic() + 20
    while (found := sizes.overview())["measuring"] or found["measured_at"] is None:
        assert time.monotonic() < end, "never measured"
        time.sleep(0.02)
    return found


def test_sums_are_those_of_what_is_stored(life):
    fill(life, 10_000)
    life.compact()
    fill(life, 10, 10_000)
    other = Stream(run_id="cd" * 16, rank=0, epoch=1)
    with life.store.write() as uow:
        info = f.RunInfo(id=other.run_id, project="empty", name="o", started_at=1.0)
        uow.upsert_run(info, None, 1.0)
    sizes = sizes_of(life)
    found = measured(sizes)
    p, empty = sorted(found["projects"], key=lambda one: one["project"], reverse=True)
    assert (p["project"], p["runs"], p["points"], p["dropped"]) == ("p", 1, 20_000, 0)
    assert (empty["project"], empty["runs"], empty["bytes"]) == ("empty", 1, 0)
    one = sizes.of_run(RUN, "p")
    assert (one["points"], one["bytes"]) == (p["points"], p["bytes"])
    assert one["series"] == 3 and one["pinned"] is False and one["days"] is None
    with life.store.readers.connect() as db:
        heavy = ("chunks", "length(summary) + length(data)"), ("axes", "length(data)")
        heavy += (("spans", "length(data)"), ("journal", "length(frame)"))
        stored = sum(
            int(db.execute(text(f"SELECT COALESCE(SUM({w}), 0) FROM {t}")).scalar_one())
            for t, w in heavy
        )
    assert one["bytes"] == stored > 10_000
    assert sizes.largest(5) == [(RUN, Size(20_000, 0, stored))]
    assert found["database"]["bytes"] > stored
    assert found["database"]["kind"] == ("SQLite" if life.store.is_file else "PostgreSQL")


def test_dropped_points_are_told_apart_and_weigh_less(life):
    fill(life, 10_000)
    life.compact()
    sizes = sizes_of(life)
    before = sizes.of_run(RUN, "p")
    retention.keep(life.store, "p", 1.0)
    retention.apply(life.store, life.tail, threading.Lock(), None, 1e9)
    after = sizes.of_run(RUN, "p")
    assert before["dropped"] == 0 and after["dropped"] > 0
    assert after["points"] + after["dropped"] == before["points"]
    assert after["bytes"] < before["bytes"] / 2
    assert after["days"] == 1.0


def test_a_preview_counts_old_runs_and_those_kept_whole(life):
    now = 100 * DAY
    for number, day in enumerate((1, 50, 99)):
        run_id = f"{number:x}" * 32
        info = f.RunInfo(id=run_id, project="q", name=str(day), started_at=day * DAY)
        with life.store.write() as uow:
            uow.upsert_run(info, None, 1.0)
            if day == 50:
                uow.pin(run_id, 1.0)
    sizes = sizes_of(life, lambda: now)
    assert sizes.preview("q", 30.0) == {"runs": 2, "whole": 1}
    assert sizes.preview("q", 0.5) == {"runs": 3, "whole": 1}
    assert sizes.preview("q", None) == {"runs": 0, "whole": 0}


def test_a_deleted_run_is_gone_from_the_sums_at_once(life):
    fill(life, 5_000)
    life.compact()
    sizes = sizes_of(life)
    assert measured(sizes)["projects"][0]["bytes"] > 0
    remove_run(life.store, RUN, BY, 5.0)
    sizes.changed()
    found = measured(sizes)
    assert found["projects"] == [] and found["removing"] == 1
