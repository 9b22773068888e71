"""Parts of norms from several ranks become one norm: exactly once, in any order, over restarts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from nanwatch.contract import frames as f
from nanwatch.contract.limits import CLOSE_PROTOCOL, SERIES_PER_RUN_MAX
from nanwatch_server.api.ranks import MISSING_LISTED_MAX, ranks_json
from nanwatch_server.domain.models import DERIVED_EPOCH, RankState, Series, Stream
from nanwatch_server.ingest import shards
from nanwatch_server.ingest.shards import STEPS_MAX, VALUES_MAX, Combiner, ShardBook
from nanwatch_server.store.history import History
from nanwatch_server.store.replay import Points, points_of, replay, tables_of
from nanwatch_server.store.tail import Tail
from tests.server.ingest.test_first_light import eventually
from tests.server.wire import RUN, Wire, hello, table

DECLS = [
    f.SeriesDecl(0, "grad_norm_shard"),
    f.SeriesDecl(1, "grad_norm_shard_layer", layer="a"),
    f.SeriesDecl(2, "loss"),
]
KINDS = {"grad_norm": "", "grad_norm_layer": "a"}


def part(steps, values, rank=0) -> Points:
    """A table of one rank: total, one layer, and a loss that is nobody else's business."""
    steps = np.atleast_1d(np.asarray(steps, np.int64))
    series = tuple(
        Series(id=n, run_id=RUN, rank=rank, stage="train", scope="", kind=d.kind, layer=d.layer)
        for n, d in enumerate(DECLS)
    )
    values = np.broadcast_to(np.asarray(values, float), (3, len(steps)))
    return Points(series, steps, steps * 1.0 + rank, values)


@given(st.permutations(range(4)), st.lists(st.floats(0, 1e300), min_size=4, max_size=4))
def test_a_whole_is_the_root_of_the_sum_of_squares_in_any_order(order, norms):
    combiner = Combiner()
    found = [combiner.add(rank, 4, 0, part(7, norms[rank], rank)) for rank in order]
    assert [len(wholes) for wholes in found] == [0, 0, 0, 1]
    (whole,) = found[-1]
    assert (whole.step, whole.time) == (7, 10.0)
    assert whole.values == pytest.approx([math.hypot(*norms)] * 2, rel=1e-12)
    assert [combiner.names[slot][2] for slot in whole.slots] == list(KINDS)


@pytest.mark.parametrize("others", [1.0, math.inf])
def test_nan_of_one_rank_wins(others):
    combiner = Combiner()
    combiner.add(0, 2, 0, part(1, others))
    (whole,) = combiner.add(1, 2, 0, part(1, math.nan, 1))
    assert np.isnan(whole.values).all()


def test_lives_of_a_training_are_never_mixed():
    combiner = Combiner()
    combiner.add(0, 2, 0, part(5, 1.0))
    assert combiner.add(1, 2, 1, part(5, 9.0, 1)) == []  # of the life after a restart
    assert combiner.add(1, 3, 0, part(5, 9.0, 1)) == []  # of another size
    (whole,) = combiner.add(0, 2, 1, part(5, 0.0))
    assert whole.values.tolist() == [9.0, 9.0]


def test_a_rank_that_says_a_step_again_takes_back_what_was_waiting():
    combiner = Combiner()
    combiner.add(0, 2, 0, part(5, 100.0))
    combiner.add(0, 2, 0, part(5, 3.0))
    (whole,) = combiner.add(1, 2, 0, part(5, 4.0, 1))
    assert whole.values.tolist() == [5.0, 5.0]
    assert combiner.add(1, 2, 0, part(5, 4.0, 1)) == []


def test_a_rank_that_was_cut_off_for_thousands_of_steps_catches_up():
    combiner = Combiner()
    for begin in range(0, 5000, 500):
        combiner.add(0, 2, 0, part(np.arange(begin, begin + 500), 3.0))
    found = combiner.add(1, 2, 0, part(np.arange(5000), 4.0, 1))
    assert [one.step for one in found] == list(range(5000))
    assert combiner.held == combiner.given_up == 0


def test_a_rank_that_never_speaks_does_not_fill_the_memory():
    combiner = Combiner()
    last = 2 * STEPS_MAX
    for begin in range(0, last, 1024):
        combiner.add(0, 2, 0, part(np.arange(begin, begin + 1024), 1.0))
    assert len(combiner._waiting) == STEPS_MAX
    assert combiner.given_up == 2 * STEPS_MAX  # of two series each
    assert combiner.add(1, 2, 0, part(0, 1.0, 1)) == []
    assert len(combiner.add(1, 2, 0, part(last - 1, 1.0, 1))) == 1


def test_many_series_wait_in_bounded_memory():
    """A client may declare thousands of layers; only a number of values waits, not of steps."""
    layers = [
        Series(
            id=n,
            run_id=RUN,
            rank=0,
            stage="train",
            scope="",
            kind="grad_norm_shard_layer",
            layer=str(n),
        )
        for n in range(SERIES_PER_RUN_MAX + 100)
    ]
    combiner = Combiner()
    for step in range(0, 300, 10):
        for low in range(0, len(layers), 4000):
            mine = tuple(layers[low : low + 4000])
            steps = np.arange(step, step + 10)
            combiner.add(0, 2, 0, Points(mine, steps, steps * 1.0, np.ones((len(mine), 10))))
    assert len(combiner.names) == SERIES_PER_RUN_MAX
    waiting = sum(len(one.values) for one in combiner._waiting.values())
    assert 0 < waiting == combiner.held <= VALUES_MAX


def test_values_that_are_given_up_are_counted(store, monkeypatch):
    monkeypatch.setattr(shards, "STEPS_MAX", 2)
    book = ShardBook(store)
    commit(store, book, 0, 0, [1, 2, 3, 4], 3.0)
    (gap,) = store.gaps(RUN)
    assert (gap["epoch"], gap["reason"], gap["points"]) == (
        DERIVED_EPOCH,
        "ranks too far apart",
        4,
    )
    commit(store, book, 0, 1, [5], 3.0)
    assert len(store.gaps(RUN)) == 1  # one line a minute


# --- in the transaction of the part --------------------------------------------------------------


def commit(store, book: ShardBook, rank: int, first: int, steps, values, fail: bool = False):
    """As a connection does: a batch of one rank, and what it completes."""
    stream = Stream(run_id=RUN, rank=rank, epoch=1)
    record = table([0, 1, 2], steps, np.broadcast_to(np.asarray(values, float), (3, len(steps))))
    made = []
    with store.write() as uow:
        uow.upsert_run(f.RunInfo(id=RUN, project="p", name="n", started_at=1.0), None, 1.0)
        uow.open_epoch(stream, started_at=1.0, parent_epoch=-1, now=1.0, world=2)
        series = uow.declare(stream, DECLS)
        frame = f.encode(f.Batch(lane="scalars", first=first, records=[record]))
        uow.append_journal(stream, "scalars", first, first, frame, 1.0)
        made = book.combine(uow, stream, (2, 0), [points_of(record, series)], 1.0)
        if fail:
            raise RuntimeError("the transaction is lost")
        opened = uow
    book.settled(opened)
    return made


def wholes(store) -> list[tuple[int, float]]:
    """(step, value) of the combined total, as every reader of the journal sees it."""
    return [
        (int(step), float(value))
        for committed in replay(store, RUN)
        if committed.stream.epoch == DERIVED_EPOCH
        for points in tables_of(committed)
        for step, value in zip(points.steps, points.values[0], strict=True)
    ]


def test_a_whole_is_an_ordinary_row_that_charts_read(store):
    book = ShardBook(store)
    assert commit(store, book, 0, 0, [1, 2, 3], 3.0) == []
    (made,) = commit(store, book, 1, 0, [1, 2], 4.0)
    assert (made.stream.rank, made.stream.epoch) == (0, DERIVED_EPOCH)
    assert wholes(store) == [(1, 5.0), (2, 5.0)]
    (norm,) = [s for s in store.series_of(RUN) if (s.kind, s.rank) == ("grad_norm", 0)]
    tail = Tail(store, History(store.readers))
    assert tail.newest(RUN, norm.id, 10).values.tolist() == [5.0, 5.0]


@pytest.mark.parametrize("at", range(4))
def test_a_restart_of_the_server_neither_loses_nor_doubles_a_step(store, at):
    book = ShardBook(store)
    jobs = [(0, 0, [1, 2], 3.0), (1, 0, [1], 4.0), (0, 1, [3], 3.0), (1, 1, [2, 3], 4.0)]
    for number, job in enumerate(jobs):
        if number == at:
            book = ShardBook(store)
        commit(store, book, *job)
    assert wholes(store) == [(1, 5.0), (2, 5.0), (3, 5.0)]


def test_a_lost_transaction_is_as_if_it_had_never_been(store):
    book = ShardBook(store)
    commit(store, book, 0, 0, [1, 2], 3.0)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="lost"):
            commit(store, book, 1, 0, [1, 2], 100.0, fail=True)
    assert wholes(store) == []
    commit(store, book, 1, 0, [1, 2], 4.0)
    assert wholes(store) == [(1, 5.0), (2, 5.0)]


def test_a_lost_group_of_transactions_is_forgotten_whoever_is_stored_first_after_it(store):
    """Jobs of a failed group are tried alone, and the first of them may hold no part of a norm."""
    book = ShardBook(store)
    commit(store, book, 0, 0, [1, 2], 3.0)
    with pytest.raises(RuntimeError, match="lost"):
        commit(store, book, 1, 0, [1, 2], 4.0, fail=True)
    with store.write() as uow:  # of the same run, with nothing to put together
        assert book.combine(uow, Stream(run_id=RUN, rank=0, epoch=1), (2, 0), [], 1.0) == []
    book.settled(uow)
    commit(store, book, 1, 0, [1, 2], 4.0)
    assert wholes(store) == [(1, 5.0), (2, 5.0)]
    declared = {one.id for one in store.series_of(RUN)}
    for committed in replay(store, RUN):
        assert {one.id for points in tables_of(committed) for one in points.series} <= declared


def test_a_page_lists_few_of_the_ranks_that_never_came():
    state = RankState(run_id=RUN, rank=5000, world=65_536, host="h", last_seen_at=1.0, last_step=3)
    listed = [one["rank"] for one in ranks_json([state], {})]
    assert listed == [*range(MISSING_LISTED_MAX), 5000]


# --- over the socket -----------------------------------------------------------------------------


def test_ranks_over_the_wire(server):
    """Two connections, one of them twice: points, presence and the first bad rank."""
    wires = [Wire(server.url, server.token) for _ in range(2)]
    for rank, wire in enumerate(wires):
        wire.hello(rank=rank, world=2, epoch=10 + rank, facts={"host": f"node{rank}"})
        wire.send(f.Declare(series=DECLS))
    for rank, wire in enumerate(wires):
        batch = f.Batch(lane="scalars", first=0, records=[table([0], [1, 2], [[3.0 + rank] * 2])])
        for _ in range(2):  # sent again: acked, and nothing twice
            wire.send(batch)
            wire.acked("scalars", 0)
    report = f.NonFinite(step=2, time=5.0, where="loss", nan=1, total=1)
    wires[1].send(f.Batch(lane="events", first=0, records=[report]))
    wires[1].acked("events", 0)

    def ranks():
        return server.get(f"/api/runs/{RUN}")["ranks"]

    assert [(r["rank"], r["host"], r["state"], r["last_step"]) for r in ranks()] == [
        (0, "node0", "connected", 2),
        (1, "node1", "connected", 2),
    ]
    assert [(r["bad_step"], r["first_bad"]) for r in ranks()] == [(None, False), (2, True)]
    assert wholes(server.parts.store) == [(1, 5.0), (2, 5.0)]
    wires[1].socket.close()
    assert eventually(lambda: [r["state"] for r in ranks()] == ["connected", "lost"])
    wires[0].socket.close()


@pytest.mark.parametrize(
    "said",
    [{"world": 0}, {"world": 1 << 31}, {"world": 2, "rank": 2}, {"generation": -1}],
    ids=str,
)
def test_a_group_that_cannot_be_is_refused(server, said):
    """A page lists every rank of the group that a client speaks of."""
    with Wire(server.url, server.token) as wire:
        wire.send(hello(**said))
        with pytest.raises(ConnectionClosed) as refused:
            wire.receive()
    assert refused.value.rcvd is not None and refused.value.rcvd.code == CLOSE_PROTOCOL
    assert server.get("/api/runs")["runs"] == []


def test_a_training_of_one_process_has_no_ranks(server):
    with Wire(server.url, server.token) as wire:
        wire.hello()
        assert server.get(f"/api/runs/{RUN}")["ranks"] == []
