"""Every point bit for bit: store → file → importer, in each format, before and after compaction."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanwatch.contract import frames as f
from nanwatch.contract.kinds import KINDS
from nanwatch_server.domain.models import RunMark, Stream
from nanwatch_server.exporters.formats import FORMATS, Export, ExportError
from nanwatch_server.store.compactor import compact
from nanwatch_server.store.history import History
from nanwatch_server.store.ordered import moment
from nanwatch_server.store.sql import SqlStore
from nanwatch_server.store.tail import Tail
from tests.server.importers.reading import read
from tests.server.wire import RUN, Wire, table

BITS = [
    *(0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000123, 0xFFF0000000000001),
    *(0x7FF0000000000000, 0xFFF0000000000000, 0x8000000000000000, 0x0000000000000000),
    *(0x0000000000000001, 0x800FFFFFFFFFFFFF, 0x7FE1CCF385EBC8A0, 0x3FB999999999999A),
]
"""NaN of several kinds, infinities, zeros, subnormals, 1e308, 0.1."""

values = st.one_of(
    st.sampled_from(BITS).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]),
    st.floats(),
)
words = st.sampled_from(["", "policy", "a.b", "loss", "step", "q1", "x/y:z@w-1"])
series = st.tuples(
    st.sampled_from(["train", "val", "odd"]),
    words,
    st.sampled_from([*sorted(KINDS), "custom", "custom"]),
    words,
)
steps = st.one_of(st.integers(0, 9), st.sampled_from([(1 << 53) - 1, 1 << 40]))


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """Ranks with their series, and tables of them in the order in which they came."""
    ranks = {rank: draw(st.lists(series, min_size=1, max_size=5, unique=True)) for rank in (0, 3)}
    tables = []
    for _ in range(draw(st.integers(1, 6))):
        rank = draw(st.sampled_from([0, 0, 3]))
        ids = draw(
            st.lists(st.integers(0, len(ranks[rank]) - 1), min_size=1, max_size=5, unique=True)
        )
        n = draw(st.integers(1, 6))
        at = draw(st.lists(steps, min_size=n, max_size=n))
        times = draw(st.lists(st.integers(0, 5_000), min_size=n, max_size=n))
        cells = draw(st.lists(values, min_size=n * len(ids), max_size=n * len(ids)))
        tables.append((rank, ids, at, [time / 1000 for time in times], cells))
    return {"ranks": ranks, "tables": tables, "compact_at": draw(st.integers(0, 6))}


def bits(value: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def fill(store: SqlStore, run_id: str, made: dict[str, Any]) -> dict[Any, list[Any]]:
    """Store the tables; what must come back, by series, in order of arrival."""
    history = History(store.readers)
    tail = Tail(store, history)
    info = f.RunInfo(id=run_id, project="p", name="r", started_at=1.0, config={"a.b": "1"})
    streams = {rank: Stream(run_id=run_id, rank=rank, epoch=1) for rank in made["ranks"]}
    with store.write() as uow:
        uow.upsert_run(info, None, 1.0)
        for rank, declared in made["ranks"].items():
            uow.declare(
                streams[rank],
                [f.SeriesDecl(i, k, sc, la, sta) for i, (sta, sc, k, la) in enumerate(declared)],
            )
    wanted: dict[Any, list[Any]] = {}
    for number, (rank, ids, at, times, cells) in enumerate(made["tables"]):
        if number == made["compact_at"]:
            compact(store, history, tail, run_id, 1 << 60)
        grid = np.array(cells).reshape(len(ids), len(at))
        batch = f.Batch(lane="scalars", first=number, records=[table(ids, at, grid, times)])
        with store.write() as uow:
            uow.append_journal(streams[rank], "scalars", number, number, f.encode(batch), 1.0)
        for row, one in enumerate(ids):
            stage, scope, kind, layer = made["ranks"][rank][one]
            wanted.setdefault((rank, stage, scope, kind, layer), []).extend(
                (step, time, bits(value))
                for step, time, value in zip(at, times, grid[row].tolist(), strict=True)
            )
    return wanted


def exported(store: SqlStore, run_id: str, format_: str) -> bytes:
    with Export(moment(store.readers), run_id, format_) as export:
        return b"".join(export.pieces())


def came_back(path: Path) -> dict[Any, list[Any]]:
    got = read(path)
    assert not got.source.problems.count, got.source.problems.shown
    found: dict[Any, list[Any]] = {}
    known = got.source.rows.series
    for row in got.rows:
        for one, value in zip(row.ids, row.values, strict=True):
            s = known[one]
            place = (s.rank, s.stage, s.scope, s.kind, s.layer)
            found.setdefault(place, []).append((row.step, row.time, bits(value)))
    return found


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(made=runs())
def test_every_format_gives_every_point_back(
    store: SqlStore, tmp_path: Path, made: dict[str, Any]
) -> None:
    run_id = f"{np.random.default_rng().integers(1 << 62):032x}"
    wanted = fill(store, run_id, made)
    for format_ in FORMATS:
        path = tmp_path / f"x.{format_}"
        path.write_bytes(exported(store, run_id, format_))
        assert came_back(path) == wanted, format_


def test_marks_and_configuration_come_back_word_for_word(store: SqlStore, tmp_path: Path) -> None:
    run_id = "ab" * 16
    made = {"ranks": {0: [("train", "", "loss", "")]}, "compact_at": 9}
    made["tables"] = [(0, [0], list(range(10)), [1.0 + n for n in range(10)], [0.5] * 10)]
    fill(store, run_id, made)
    marks = [
        RunMark(run_id=run_id, what="config", step=0, at=0.25, text="config", data={"lr": "0.1"}),
        RunMark(run_id=run_id, what="task", step=4, at=99.0, text="task_end: A", data={"n": "1"}),
        RunMark(run_id=run_id, what="fit", step=7, at=99.5, text="fit 2"),
        RunMark(run_id=run_id, what="note", step=30, at=100.0, text='said "so", ü\n'),
    ]
    with store.write() as uow:
        for mark in marks:
            uow.add_mark(mark)
    path = tmp_path / "x.jsonl"
    path.write_bytes(exported(store, run_id, "jsonl"))
    got = read(path)
    assert [(m.what, m.step, m.time, m.text, m.data) for m in got.marks] == [
        (m.what, m.step, m.at, m.text, m.data) for m in marks
    ]
    assert got.source.config == {"a.b": "1"}
    order = [item.step if item in got.rows else item.what for item in got.items]
    assert order == ["config", 0, 1, 2, 3, "task", 4, 5, 6, "fit", 7, 8, 9, "note"]


def test_a_record_of_thousands_of_series_is_one_again(store: SqlStore, tmp_path: Path) -> None:
    """Longer than a line may be: several lines of one step."""
    run_id = "cd" * 16
    declared = [("train", "", "grad_norm_layer", f"{'layer.' * 25}{n}") for n in range(3_000)]
    made = {"ranks": {0: [*declared, ("train", "", "loss", "")]}, "compact_at": 9}
    made["tables"] = [(0, list(range(3_001)), [1, 2], [1.0, 2.0], np.arange(6_002.0).tolist())]
    wanted = fill(store, run_id, made)
    path = tmp_path / "x.jsonl"
    path.write_bytes(exported(store, run_id, "jsonl"))
    assert max(map(len, path.read_text().splitlines())) < 1 << 18
    assert came_back(path) == wanted
    assert len(read(path).rows) == 2


def test_an_unknown_run_and_format_are_said(store: SqlStore) -> None:
    with pytest.raises(ExportError, match="no run has the id"):
        Export(moment(store.readers), "ef" * 16, "csv")
    with pytest.raises(ExportError, match="expected a format of csv, jsonl, parquet"):
        Export(moment(store.readers), "ef" * 16, "xml")


def test_over_http_as_a_file(server: Any) -> None:
    with Wire(server.url, server.token) as wire:
        wire.hello()
        wire.send(f.Declare(series=[f.SeriesDecl(1, "loss")]))
        record = table([1], range(5), [[0.5, float("nan"), float("inf"), -0.0, 5e-324]])
        wire.send(f.Batch(lane="scalars", first=0, records=[record]))
        wire.acked("scalars", 0)
    for form in FORMATS:
        answer = server.http.get(f"/api/runs/{RUN}/export", params={"format": form})
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="run.{form}"'
    lines = server.http.get(f"/api/runs/{RUN}/export").text.splitlines()[1:]
    assert [line.split(",")[-1] for line in lines] == ["0.5", "NaN", "Infinity", "-0.0", "5e-324"]
    assert server.http.get(f"/api/runs/{RUN}/export?format=xml").status_code == 422
    assert server.http.get(f"/api/runs/{'0' * 32}/export").status_code == 404
