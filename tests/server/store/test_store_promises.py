"""What every store promises (`store/base.py`), on a real SQLite file and a real PostgreSQL."""

from __future__ import annotations

import math
import multiprocessing
import struct
import threading
import time
from contextlib import suppress

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import IntegrityError

from nanwatch.contract.frames import RunInfo, SeriesDecl
from nanwatch_server.domain.models import (
    Checkpoint,
    Command,
    Coverage,
    Diagnosis,
    Evidence,
    Finding,
    Incident,
    IncidentState,
    RunMark,
    Severity,
    Stream,
    Suggestion,
    Transition,
)
from nanwatch_server.store.base import StoreBusyError, StoreUnavailableError
from nanwatch_server.store.sql import FILE_NAME, SqlStore, migrate

RUN = "ab" * 16
STREAM = Stream(run_id=RUN, rank=0, epoch=(1 << 53) - 1)


def info(run_id=RUN, name="run", **more):
    return RunInfo(id=run_id, project="p", name=name, started_at=5.0, **more)


def finding(step=7, cleared=False):
    return Finding(
        run_id=RUN,
        rule="grad-norm",
        severity=Severity.WARNING,
        step=step,
        onset_step=3,
        time=1.5,
        title="t",
        message="m",
        evidence=(Evidence(label="norm", value="NaN"),),
        doubling_steps=math.inf,
        cleared=cleared,
    )


def incident(state=IncidentState.FIRING, **more):
    return Incident(
        id="i1",
        run_id=RUN,
        state=state,
        severity=Severity.CRITICAL,
        diagnosis=Diagnosis(
            syndrome="exploding-gradient",
            title="t",
            what="w",
            why="y",
            confidence=0.9,
            suggestions=(
                Suggestion(text="s", treats="cause", command="scale_lr", args={"factor": 0.1}),
            ),
        ),
        onset_step=3,
        fired_step=7,
        last_step=9,
        opened_at=1.0,
        updated_at=2.0,
        count=1,
        findings=(finding(),),
        snoozed_until=math.inf,
        **more,
    )


def command(command_id="c1", key="k1", state="queued", **more):
    return Command(
        id=command_id,
        run_id=RUN,
        kind="set_lr",
        args={"lr": 1e-4},
        state=state,
        actor="a",
        role="control",
        reason="",
        created_at=1.0,
        expires_at=2.0,
        key=key,
        transitions=(Transition(state="queued", at=1.0),),
        **more,
    )


def test_a_run_comes_back_as_it_was_and_keeps_what_it_said(store):
    with store.write() as uow:
        uow.upsert_run(info(config={"lr": "1e-3"}, facts={"host": "h"}), {"lr": [1e-6, 0.1]}, 9.0)
        uow.touch_run(RUN, last_seen_at=20.0, last_step=40)
        uow.touch_run(RUN, last_seen_at=10.0, last_step=30)
        uow.end_run(RUN, at=30.0, reason="finished", exit_code=0)
    run = store.run(RUN)
    assert (run.config, run.facts, run.control) == (
        {"lr": "1e-3"},
        {"host": "h"},
        {"lr": [1e-6, 0.1]},
    )
    assert (run.last_seen_at, run.last_step, run.ended_at, run.exit_code) == (20.0, 40, 30.0, 0)
    with store.write() as uow:
        uow.upsert_run(info(facts={"pid": "1"}), None, 50.0)
    run = store.run(RUN)
    assert run.facts == {"host": "h", "pid": "1"} and run.ended_at is None and run.control is None


def test_runs_are_listed_newest_first_and_page_without_loss(store):
    ids = [f"{i:032x}" for i in range(7)]
    with store.write() as uow:
        for i, run_id in enumerate(ids):
            uow.upsert_run(info(run_id, name=f"n_{i}%"), None, 1.0)
    seen, after = [], ""
    while after is not None:
        page, after = store.runs(limit=3, after=after)
        seen += [run.id for run in page]
    assert seen == ids[::-1]
    assert [run.name for run in store.runs(query="n_3%")[0]] == ["n_3%"]
    assert store.runs(query="%")[0] and not store.runs(query="_x")[0]
    assert not store.runs(project="other")[0]


def test_a_failed_block_leaves_nothing(store):
    with pytest.raises(ZeroDivisionError), store.write() as uow:
        uow.upsert_run(info(), None, 1.0)
        uow.append_journal(STREAM, "scalars", 0, 1, b"x", 1.0)
        raise ZeroDivisionError
    assert store.run(RUN) is None and store.journal(RUN) == []
    with store.write() as uow:  # and the next one works
        uow.upsert_run(info(), None, 1.0)
    assert store.run(RUN)


def test_journal_frames_and_high_water_survive_a_restart(store, place):
    frame = struct.pack("<5d", math.nan, math.inf, -math.inf, -0.0, 1e-320)
    with store.write() as uow:
        assert uow.high_water(STREAM, "scalars") == -1
        first = uow.append_journal(STREAM, "scalars", 0, 4, frame, 1.0)
        second = uow.append_journal(STREAM, "events", 0, 0, b"e", 1.0)
        uow.set_high_water(STREAM, "scalars", 4)
        uow.set_high_water(STREAM, "scalars", 9)
        uow.add_gap(STREAM, "scalars", 5, 9, "spool-full", 320, 1.0)
    store.close()
    again = place.open()
    rows = again.journal(RUN)
    assert [(r.id, r.lane, r.frame) for r in rows] == [
        (first, "scalars", frame),
        (second, "events", b"e"),
    ]
    assert rows[0].stream == STREAM
    assert [row.id for row in again.journal(RUN, after=first)] == [second]
    assert again.high_water(STREAM, "scalars") == 9
    assert again.high_water(STREAM, "events") == -1
    assert again.gaps(RUN)[0]["points"] == 320
    with again.write() as uow:
        assert uow.append_journal(STREAM, "scalars", 10, 10, frame, 1.0) > second


def test_the_same_batch_cannot_be_stored_twice(store):
    with store.write() as uow:
        uow.append_journal(STREAM, "scalars", 0, 4, b"x", 1.0)
    with pytest.raises(IntegrityError), store.write() as uow:
        uow.append_journal(STREAM, "scalars", 0, 2, b"y", 1.0)
    assert [row.frame for row in store.journal(RUN)] == [b"x"]


def test_declarations_are_idempotent_and_shared_between_epochs(store):
    decls = [SeriesDecl(1, "loss"), SeriesDecl(2, "grad_norm_layer", "policy", "gru.weight")]
    other = Stream(run_id=RUN, rank=0, epoch=2)
    with store.write() as uow:
        first = uow.declare(STREAM, decls)
        assert uow.declare(STREAM, decls) == first
        second = uow.declare(other, [SeriesDecl(77, "loss")])
        third = uow.declare(Stream(run_id=RUN, rank=1, epoch=2), [SeriesDecl(1, "loss")])
    assert second[77] == first[1] and third[1].id != first[1].id
    assert store.declarations(STREAM) == first and store.declarations(other) == second
    assert [s.kind for s in store.series_of(RUN)] == ["loss", "grad_norm_layer", "loss"]


def test_the_newest_epoch_is_live_and_an_older_one_only_backfills(store):
    def opened(epoch, started_at, parent=-1):
        stream = Stream(run_id=RUN, rank=0, epoch=epoch)
        with store.write() as uow:
            return uow.open_epoch(stream, started_at=started_at, parent_epoch=parent, now=1.0)

    assert opened(1, 100.0)
    assert opened(1, 100.0)
    assert opened(2, 200.0)  # a later process takes over
    assert not opened(1, 100.0)  # the old one comes back: backfill
    assert not opened(3, 150.0)  # an unseen one that started earlier: backfill
    assert opened(4, 50.0, parent=2)  # the child of the live one, whatever its clock says


def test_findings_are_inserted_once(store):
    with store.write() as uow:
        assert uow.add_findings([finding(7), finding(8), finding(7)]) == [finding(7), finding(8)]
    with store.write() as uow:
        assert uow.add_findings([finding(8), finding(8, cleared=True)]) == [
            finding(8, cleared=True)
        ]
    assert store.findings(RUN) == [finding(7), finding(8), finding(8, cleared=True)]


def test_incidents_come_back_equal(store):
    with store.write() as uow:
        uow.put_incident(incident())
    assert store.incident("i1") == incident() == store.incidents(open_only=True)[0]
    with store.write() as uow:
        uow.put_incident(incident(IncidentState.RESOLVED, resolved_step=40))
    assert store.incidents(open_only=True) == []
    assert store.incidents(run_id=RUN)[0].resolved_step == 40
    assert store.incidents(run_id="other") == []


def test_commands_are_unique_by_key_and_keep_non_finite_numbers(store):
    with store.write() as uow:
        assert uow.insert_command(command()) == command()
        assert uow.insert_command(command("c2")) == command()  # the same key
        changed = command(state="applied", before={"": math.nan}, after={"": math.inf})
        uow.put_command(changed)
        assert uow.command("c1").state == "applied" and uow.command("c2") is None
    stored = store.command("c1")
    assert math.isnan(stored.before[""]) and stored.after == {"": math.inf}
    assert [c.id for c in store.commands(RUN, open_only=True)] == ["c1"]
    with store.write() as uow:
        uow.put_command(command(state="verified"))
    assert store.commands(RUN, open_only=True) == [] and store.commands("")[0].id == "c1"


def test_marks_checkpoints_and_reports(store):
    mark = RunMark(run_id=RUN, what="task", step=3, at=1.0, data={"task": "2"})
    saved = Checkpoint(run_id=RUN, step=9, at=2.0, path="/ckpt", bytes=1 << 40, sha256="f" * 64)
    with store.write() as uow:
        uow.add_mark(mark)
        uow.add_checkpoint(saved)
        uow.add_report(RUN, "nonfinite", 4, 3.0, b"\x80")
    assert store.marks(RUN) == [mark] and store.checkpoints(RUN) == [saved]
    assert store.reports(RUN)[0]["data"] == b"\x80"


def test_a_changed_audit_row_is_found(store, place):
    with store.write() as uow:
        for i in range(5):
            uow.audit(
                at=i + 0.1,
                actor="browser:1",
                role="control",
                via="session",
                action="command",
                run_id=RUN,
                target=f"c{i}",
                detail={"factor": math.nan, "b": [1, 2.5], "a": None},
            )
    assert store.audit_break() is None
    rows = store.audit_rows(limit=2)
    assert [row["target"] for row in rows] == ["c4", "c3"]
    assert rows[0]["detail"] == {"factor": "NaN", "b": [1, 2.5], "a": None}
    assert [r["target"] for r in store.audit_rows(after=rows[-1]["id"])] == ["c2", "c1", "c0"]
    place.execute("UPDATE audit SET actor = 'browser:2' WHERE n = 3")
    assert store.audit_break() == 3
    place.execute(
        "UPDATE audit SET actor = 'browser:1' WHERE n = 3", "DELETE FROM audit WHERE n = 4"
    )
    assert store.audit_break() == 5


def test_tokens_sessions_and_login_codes(store):
    with store.write() as uow:
        uow.put_token({"id": "t1", "sha256": "a", "role": "ingest", "revoked_at": None})
        uow.put_token({"id": "t1", "sha256": "a", "role": "ingest", "revoked_at": 3.5})
        uow.put_session({"sha256": "s", "role": "view"})
        uow.put_login_code({"sha256": "l", "expires_at": 10.0, "role": "admin"})
        uow.put_login_code({"sha256": "m", "expires_at": 10.0, "role": "admin"})
    assert store.token("a")["revoked_at"] == 3.5 and store.token("b") is None
    assert len(store.tokens()) == 1 and store.session("s")["role"] == "view"
    with store.write() as uow:
        assert uow.take_login_code("l", 9.0)["role"] == "admin"
        assert uow.take_login_code("l", 9.0) is None
        assert uow.take_login_code("m", 10.0) is None


def test_threads_write_and_read_at_the_same_time(store):
    errors = []

    def work(i):
        try:
            for j in range(10):
                with store.write() as uow:
                    uow.upsert_run(info(f"{i:016x}{j:016x}"), None, 1.0)
                assert store.run(f"{i:016x}{j:016x}")  # reads see what was written before
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not errors and len(store.runs(limit=100)[0]) == 60


def test_a_block_inside_a_block_is_refused_instead_of_hanging(store):
    with store.write(), pytest.raises(RuntimeError, match="inside"), store.write():
        pass


def _hold(directory, database, ready, leave):
    store = SqlStore(directory, database)  # kept: the lock lives as long as it
    ready.set()
    leave.wait(30)
    store.close()


def test_a_second_server_is_refused_and_a_dead_ones_lock_is_not(place, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    ready, leave = spawn.Event(), spawn.Event()
    arguments = (place.directory, place.database, ready, leave)
    holder = spawn.Process(target=_hold, args=arguments, daemon=True)
    holder.start()
    assert ready.wait(30)
    with pytest.raises(StoreBusyError, match=rf"pid {holder.pid}\b"):
        place.open()
    if place.database:  # another directory does not help
        with pytest.raises(StoreBusyError, match=rf"pid {holder.pid}\b"):
            SqlStore(tmp_path / "other", place.database)
    holder.kill()
    holder.join()
    until = time.monotonic() + 30
    while time.monotonic() < until:  # PostgreSQL notices a moment later
        with suppress(StoreBusyError):
            place.open()
            return
    pytest.fail("the lock outlived its holder")


def test_only_the_owner_may_look_into_the_data_directory(store, place):
    assert place.directory.stat().st_mode & 0o777 == 0o700
    if place.engine == "sqlite":
        assert (place.directory / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_the_migrations_make_the_schema_that_the_code_expects(store):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from nanwatch_server.store.tables import metadata

    def ours(name, kind, _parents):
        return kind != "table" or "_p" not in name  # partitions

    def here(_object, name, _kind, _reflected, _other):
        return name != "chunks_glance" or db.dialect.name == "sqlite"

    with store._writer.connect() as db:
        opts = {"include_name": ours, "include_object": here}
        context = MigrationContext.configure(db, opts=opts)
        assert compare_metadata(context, metadata) == []


def test_a_database_of_the_first_version_is_brought_forward(tmp_path):
    """What an older server wrote is read as it was, with the new columns empty."""
    engine = create_engine(f"sqlite:///{tmp_path / FILE_NAME}")
    with engine.begin() as db:
        migrate(db, "0001")
        db.execute(
            text(
                "INSERT INTO runs (id, project, name, created_at, started_at, config, facts,"
                " last_seen_at, last_step, end_reason)"
                f" VALUES ('{RUN}', 'p', 'run', 1.0, 1.0, x'80', x'80', 1.0, 7, '')"
            )
        )
        db.execute(
            text(
                "INSERT INTO reports (run_id, what, step, at, data)"
                f" VALUES ('{RUN}', 'nonfinite', 4, 3.0, x'80')"
            )
        )
    engine.dispose()
    newer = SqlStore(tmp_path)
    try:
        run = newer.run(RUN)
        assert run is not None and run.name == "run" and run.coverage is None
        [report] = newer.reports(RUN)
        assert (report["step"], report["rank"], report["data"]) == (4, 0, b"\x80")
        said = Coverage(step=3, at=7.0, what={"loss": "every attempt"})
        with newer.write() as uow:
            uow.set_coverage(RUN, said)
        again = newer.run(RUN)
        assert again is not None and again.coverage == said
    finally:
        newer.close()


def test_every_write_is_synced_to_disk(store, engine):
    with store._writer.connect() as db:
        if engine == "sqlite":
            assert db.execute(text("PRAGMA synchronous")).scalar() == 2
            assert db.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        else:
            assert db.execute(text("SHOW synchronous_commit")).scalar() == "on"


POISON = {
    "NUL": lambda uow: uow.end_run(RUN, at=1.0, reason="a\0b", exit_code=0),
    "half a surrogate pair": lambda uow: uow.end_run(RUN, at=1.0, reason="\ud800", exit_code=0),
    "an integer beyond 64 bits": lambda uow: uow.set_high_water(STREAM, "scalars", 1 << 63),
    "a row number beyond 64 bits": lambda uow: uow.append_journal(
        STREAM, "scalars", -(1 << 63) - 1, 0, b"", 1.0
    ),
    "a batch that is there": lambda uow: uow.append_journal(STREAM, "scalars", 0, 1, b"", 1.0),
}


@pytest.mark.parametrize("kind", POISON)
def test_what_cannot_be_stored_is_refused_and_not_tried_for_ever(store, kind):
    with store.write() as uow:
        uow.upsert_run(info(), None, 1.0)
        uow.append_journal(STREAM, "scalars", 0, 1, b"x", 1.0)
    with pytest.raises(Exception) as raised, store.write() as uow:
        uow.append_journal(STREAM, "scalars", 5, 6, b"y", 1.0)
        POISON[kind](uow)
    assert not isinstance(raised.value, StoreUnavailableError)
    assert [row.frame for row in store.journal(RUN)] == [b"x"]
    with store.write() as uow:
        uow.append_journal(STREAM, "scalars", 2, 3, b"z", 1.0)
    assert [row.frame for row in store.journal(RUN)] == [b"x", b"z"]


def test_integers_up_to_the_largest_and_times_come_back(store):
    last = (1 << 63) - 1
    with store.write() as uow:
        uow.upsert_run(info(), None, 1e-320)
        uow.append_journal(STREAM, "scalars", -(1 << 63), last, b"", 0.1 + 0.2)
    [row] = store.journal(RUN)
    assert (row.first, row.last, row.at) == (-(1 << 63), last, 0.1 + 0.2)
    assert store.run(RUN).created_at == 1e-320


def test_a_search_for_anything_is_answered(store):
    with store.write() as uow:
        uow.upsert_run(info(name="Ant-v4"), None, 1.0)
    assert [run.name for run in store.runs(query="ant-V4")[0]] == ["Ant-v4"]
    for strange in ("a\0b", "%", "\\", "'", "x" * 1000):
        assert store.runs(query=strange)[0] == []
        assert store.runs(project=strange)[0] == []
        assert store.run(strange) is None
    assert store.runs(after="9" * 30)[0] is not None


@pytest.mark.parametrize("statement", [3, 40, 75])
def test_a_migration_that_is_cut_short_begins_again(engine, request, tmp_path, statement):
    database = ""
    if engine == "postgresql":
        cluster = request.getfixturevalue("cluster")
        name = f"cut{statement}"
        cluster.execute(f"CREATE DATABASE {name}")
        database = cluster.address(name)
    seen = iter(range(10_000))

    def cut(*_args):
        if next(seen) == statement:
            raise KeyboardInterrupt

    event.listen(Engine, "before_cursor_execute", cut)
    try:
        with pytest.raises(KeyboardInterrupt):
            SqlStore(tmp_path, database)
    finally:
        event.remove(Engine, "before_cursor_execute", cut)
    store = SqlStore(tmp_path, database)
    with store.write() as uow:
        uow.upsert_run(info(), None, 1.0)
    assert store.run(RUN)
    store.close()
