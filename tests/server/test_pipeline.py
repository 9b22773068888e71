"""From the journal to findings and incidents: the same after a restart and with a full disk."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
import time
from typing import Any

import numpy as np
import pytest

from nanwatch.contract import frames as f
from nanwatch_server.control.queue import Desk
from nanwatch_server.domain.models import Command, Severity, Stream
from nanwatch_server.live.hub import Hub
from nanwatch_server.pipeline import Pipeline
from nanwatch_server.store import sqlite
from nanwatch_server.store.compactor import compact
from nanwatch_server.store.history import History
from nanwatch_server.store.replay import Committed
from nanwatch_server.store.sql import SqlStore
from nanwatch_server.store.tail import Tail
from tests.server.ingest.test_first_light import eventually
from tests.server.wire import RUN, table

KINDS = ("loss", "grad_norm", "clip_threshold", "update_applied", "lr", "lr_scheduled")


class Told:
    """What browsers would be told."""

    def __init__(self) -> None:
        self.incidents: list[Any] = []

    def incident(self, incident: Any) -> None:
        self.incidents.append(incident)

    def record(self, stream: Any, record: Any) -> None: ...


def pipeline_of(store, desk=None):
    return Pipeline(store, Tail(store, History(store.readers)), Hub(), desk or Desk(store), Told())


def commit(store, first, records, epoch=1, run=RUN):
    """As the intake does: one batch, one journal row."""
    stream = Stream(run_id=run, rank=0, epoch=epoch)
    with store.write() as uow:
        info = f.RunInfo(id=run, project="p", name="n", started_at=1.0)
        uow.upsert_run(info, None, time.time())
        decls = [f.SeriesDecl(i, kind) for i, kind in enumerate(KINDS)]
        series = uow.declare(stream, decls)
        last = first + len(records) - 1
        frame = f.encode(f.Batch(lane="scalars", first=first, records=records))
        row = uow.append_journal(stream, "scalars", first, last, frame, time.time())
    return Committed(row, stream, "scalars", records, series)


def explosion(begin, end):
    """Attempts of a run whose gradient explodes from step 400."""
    steps = np.arange(begin, end)
    noise = 1 + 0.1 * np.sin(steps * 1.7)
    norm = noise * 2.0 ** (np.maximum(steps - 400, 0) / 6)
    one = np.ones(len(steps))
    return table(list(range(6)), steps, [noise, norm, one, one, 3e-4 * one, 3e-4 * one])


def batches(end=600, size=7):
    """Records of small batches, with marks between them."""
    for first, begin in enumerate(range(0, end, size)):
        yield first, explosion(begin, min(begin + size, end))


def finished(pipeline):
    """Judge all that was committed."""
    eventually(pipeline._queue.empty)
    pipeline.close()


@pytest.fixture
def judged(store):
    """A store in which a run exploded before the eyes of the rules."""
    pipeline = pipeline_of(store)
    pipeline.start()
    for first, record in batches():
        if first == 20:
            pipeline.committed(commit(store, 1000, [f.Mark(what="eval", step=140, time=1.0)], 2))
        pipeline.committed(commit(store, first, [record], 1 if first < 20 else 3))
    finished(pipeline)
    return store


def test_a_restart_finds_nothing_new_and_opens_nothing_twice(judged):
    findings, incidents = judged.findings(RUN), judged.incidents()
    assert findings and len(incidents) == 1
    again = pipeline_of(judged)
    again.start()
    eventually(lambda: again.knows(RUN))
    again.committed(commit(judged, 2000, [explosion(600, 601)], 3))  # and the rules are where
    finished(again)  # they were: the next point makes no second finding of what is known
    assert judged.findings(RUN) == findings
    assert [one.id for one in judged.incidents()] == [one.id for one in incidents]
    assert judged.incidents()[0].count == incidents[0].count


def test_values_that_are_not_finite_wait_for_no_one_and_stop_no_one(store):
    """Of many runs that wait, one whose loss is NaN is judged first; then the others in turn."""
    pipeline = pipeline_of(store)
    runs = [f"{number:02x}" * 16 for number in range(12)]
    well = explosion(0, 8)
    values = np.frombuffer(well.values, "<f8").reshape(6, 8).copy()
    values[0, -1] = np.nan
    sick = table(well.ids, np.arange(8), values)
    judged = []
    learn = pipeline._judge.learn
    pipeline._judge.learn = lambda run_id, shown: (judged.append(run_id), learn(run_id, shown))
    for number, run in enumerate(runs):
        record = sick if number in (7, 9, 10) else well
        pipeline.committed(commit(store, 0, [record], run=run))
    pipeline._show_waiting()
    assert list(pipeline._urgent) == [runs[7], runs[9], runs[10]]
    pipeline.committed(commit(store, 1, [sick], run=runs[8]))
    pipeline.committed(commit(store, 1, [sick], run=runs[7]))  # as before: no news
    pipeline.start()
    finished(pipeline)
    at = [runs.index(run) for run in judged]
    assert at == [7, 0, 9, 1, 10, 2, 8, 3, 4, 5, 6, 11]
    assert {one.run_id for one in store.incidents()} == {runs[n] for n in (7, 8, 9, 10)}


def test_rules_go_on_without_a_journal(judged, tmp_path):
    """Saved in the middle, the journal gone into chunks, another server: the same findings."""
    other = SqlStore(tmp_path / "other")
    try:
        pipeline = pipeline_of(other)
        pipeline.start()
        for first, record in batches():
            if first in (30, 60):  # the server ends, and another goes on
                finished(pipeline)
                assert compact_all(other, pipeline) > 0
                assert not other.journal(RUN)
                pipeline = pipeline_of(other)
                pipeline.start()
            if first == 20:
                mark = commit(other, 1000, [f.Mark(what="eval", step=140, time=1.0)], 2)
                pipeline.committed(mark)
            pipeline.committed(commit(other, first, [record], 1 if first < 20 else 3))
        finished(pipeline)
        assert other.findings(RUN) == judged.findings(RUN)
        [cut], [whole] = other.incidents(), judged.incidents()
        assert (cut.onset_step, cut.fired_step, cut.count) == (
            (whole.onset_step, whole.fired_step, whole.count)
        )
    finally:
        other.close()


def compact_all(store, pipeline):
    """Everything the rules have saved, into chunks."""
    history = History(store.readers)
    return compact(store, history, Tail(store, history), RUN, pipeline.safe_upto(RUN))[0]


def test_a_crash_between_commit_and_rules_is_made_up_for(judged, tmp_path):
    unseen = SqlStore(tmp_path / "unseen")
    try:
        for first, record in batches():
            if first == 20:
                commit(unseen, 1000, [f.Mark(what="eval", step=140, time=1.0)], 2)
            commit(unseen, first, [record], 1 if first < 20 else 3)
        pipeline = pipeline_of(unseen)
        pipeline.start()
        eventually(lambda: pipeline.knows(RUN))
        pipeline.close()
        assert {one.id for one in unseen.findings(RUN)} == {one.id for one in judged.findings(RUN)}
        [late], [live] = unseen.incidents(), judged.incidents()
        assert (late.onset_step, late.fired_step) == (live.onset_step, live.fired_step)
        assert late.diagnosis.syndrome == live.diagnosis.syndrome
    finally:
        unseen.close()


def test_findings_wait_for_a_database_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    store = SqlStore(tmp_path / "data")
    pipeline = pipeline_of(store)
    items = [commit(store, first, [record]) for first, record in batches()]
    other = sqlite3.connect(tmp_path / "data" / sqlite.FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    pipeline.start()
    for item in items:
        pipeline.committed(item)
    time.sleep(1.0)
    assert store.findings(RUN) == []
    other.execute("ROLLBACK")
    other.close()
    eventually(lambda: store.incidents(), 10)
    finished(pipeline)
    told = [one for one in store.findings(RUN) if one.severity >= Severity.WARNING]
    assert told and len(store.incidents()) == 1
    assert store.incidents()[0].count == len([one for one in told if not one.cleared])
    store.close()


def test_a_change_and_its_note_are_one(judged):
    pipeline = pipeline_of(judged)
    [before] = judged.incidents()

    def edit(incident):
        return dataclasses.replace(incident, acknowledged_by="me")

    def fails(uow, incident):
        raise OSError("no audit")

    with pytest.raises(OSError):
        pipeline.change(before.id, edit, fails)
    assert judged.incidents() == [before]
    assert pipeline.change("none", edit, fails) is None


def test_an_applied_command_is_verified_by_points_from_before_the_restart(judged):
    command = Command(
        id="c" * 32,
        run_id=RUN,
        kind="scale_lr",
        args={"factor": 1.0},
        state="applied",
        actor="a",
        role="control",
        reason="",
        created_at=1.0,
        expires_at=2.0,
        key="k",
        applied_step=500,
        after={"": 3e-4},
        factor=1.0,
    )
    with judged.write() as uow:
        uow.insert_command(command)
    desk = Desk(judged)
    pipeline = pipeline_of(judged, desk)
    desk.start()
    pipeline.start()

    def state():
        return judged.command(command.id).state

    eventually(lambda: state() == "verified")
    pipeline.close()
    desk.close()


def test_it_stops_soon_with_much_to_do_and_goes_on_at_the_next_start(store):
    pipeline = pipeline_of(store)
    pipeline.start()
    items = [commit(store, first, [record]) for first, record in batches(end=900, size=3)]
    feeding = threading.Thread(target=lambda: [pipeline.committed(item) for item in items])
    feeding.start()
    time.sleep(0.05)
    begin = time.monotonic()
    pipeline.close()
    feeding.join(10)
    assert time.monotonic() - begin < 6 and not feeding.is_alive()
    again = pipeline_of(store)
    again.start()
    eventually(lambda: again.knows(RUN), 20)
    again.close()
    assert len(store.incidents()) == 1


@pytest.mark.parametrize("replayed", [False, True])
def test_a_training_that_begins_again_is_not_compared_with_its_first_life(store, replayed):
    """A restart from scratch has the gradients of an untrained model again: nothing is wrong."""
    one = np.ones(600)

    def life(norm):
        values = [one, norm * (1 + 0.05 * np.sin(np.arange(600) * 1.7)), one, one, one, one]
        return table(list(range(6)), np.arange(600), values)

    pipeline = pipeline_of(store)
    if not replayed:
        pipeline.start()
    for epoch, norm in ((1, 1e-3 * one), (2, 20 * one)):
        committed = commit(store, 0, [life(norm)], epoch)
        if not replayed:
            pipeline.committed(committed)
    if replayed:
        pipeline.start()
        eventually(lambda: pipeline.knows(RUN))
    finished(pipeline)
    assert [finding.title for finding in store.findings(RUN) if finding.severity > 1] == []


@pytest.mark.parametrize("restart", [False, True])
def test_what_a_training_tells_of_itself_later_is_known_to_the_diagnosis(store, restart):
    pipeline = pipeline_of(store)
    pipeline.start()
    told = f.Mark(what="config", step=20, time=1.0, data={"recurrent": "true"})
    for first, record in batches():
        if first == 3:
            pipeline.committed(commit(store, 1000, [told], 2))
        if first == 40 and restart:
            finished(pipeline)
            pipeline = pipeline_of(store)
            pipeline.start()
        pipeline.committed(commit(store, first, [record], 1 if first < 3 else 3))
    finished(pipeline)
    assert any("model is recurrent" in str(i.diagnosis) for i in store.incidents(run_id=RUN))
