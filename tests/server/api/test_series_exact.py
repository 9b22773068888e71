"""Every range of every series against a plain walk over its points, over HTTP, before and after."""

from __future__ import annotations

import math
import random
import sqlite3

import numpy as np

from nanwatch.contract import frames as f
from nanwatch_server.store.buckets import COLUMNS, width_for
from tests.server.ingest.test_first_light import eventually, ids_of, query
from tests.server.store.test_tail_and_buckets import slowly
from tests.server.wire import RUN, Wire, table

ODD = [math.nan, math.inf, -math.inf, -0.0, 0.0, 1e300, -1e300, 5e-324]


def wandering(rng, count):
    """Steps that repeat, jump and go back; values with spikes and without numbers."""
    step, points = 0, []
    for _ in range(count):
        step = max(0, step + rng.choice([0, 1, 1, 1, 1, 1, 1, 1, 1, 17, -1, -40]))
        odd = rng.random() < 0.05
        points.append((step, rng.choice(ODD) if odd else rng.gauss(0, 1)))
    return points


def expected(points, x0, x1, buckets):
    """What the protocol promises, by its definition."""
    inside = sorted(
        (p for p in points if (x0 is None or p[0] >= x0) and (x1 is None or p[0] <= x1)),
        key=lambda p: p[0],
    )
    steps = [p[0] for p in inside]
    if len(inside) <= buckets:
        return {"steps": steps, "values": [p[1] for p in inside]}
    width = width_for(steps[0] if x0 is None else x0, steps[-1] if x1 is None else x1, buckets)
    rows = list(slowly(steps, [p[1] for p in inside], width))
    return {name: [row[name] for row in rows] for name in COLUMNS if name != "last_time"}


def ask(server, series, x0, x1, buckets):
    limits = {"x0": x0, "x1": x1, "buckets": buckets}
    given = {name: value for name, value in limits.items() if value is not None}
    return query(server, [series], **given)[1][0]


def test_any_range_is_exact_and_the_same_again_and_after_a_restart(server, start):
    rng = random.Random(11)
    data = {1: wandering(rng, 3000), 2: [(i, float(i % 7)) for i in range(3000)]}
    with Wire(server.url, server.token) as wire:
        wire.hello()
        wire.send(f.Declare(series=[f.SeriesDecl(1, "loss"), f.SeriesDecl(2, "reward")]))
        first, seq = 0, 0
        while first < 3000:
            size = rng.choice([1, 3, 50, 200])
            for series, points in data.items():
                part = points[first : first + size]
                record = table([series], [p[0] for p in part], [[p[1] for p in part]])
                wire.send(f.Batch(lane="scalars", first=seq, records=[record]))
                seq += 1
            first += size
        wire.acked("scalars", seq - 1)
    ids = ids_of(server)
    names = {1: ids["loss", "", ""], 2: ids["reward", "", ""]}
    eventually(
        lambda: all(
            ask(server, i, None, None, 20_000)["steps"].size == 3000 for i in names.values()
        )
    )
    top = max(p[0] for p in data[1])
    ranges = [(None, None), (0, top), (top + 1, None), (5, 5)]
    for _ in range(12):
        low, high = sorted((rng.randrange(top + 1), rng.randrange(top + 1)))
        ranges.append(rng.choice([(low, high), (low, None), (None, high)]))
    asked = [(s, *r, rng.choice([10, 33, 100, 1000, 20_000])) for s in data for r in ranges]
    answers = []
    for series, *limits in asked:
        got = ask(server, names[series], *limits)
        want = expected(data[series], *limits)
        assert set(got) - {"mode", "times", "last_time"} == set(want), limits
        total = want.pop("sum", None)
        if total is not None:  # numpy adds in another order; a bucket may hold 1e300 and -1e300
            np.testing.assert_allclose(got["sum"], total, rtol=1e-9, atol=1e290)
            small = np.abs(np.array(total)) < 1e280
            calm = small & (np.array(want["max"]) < 1e6) & (np.array(want["min"]) > -1e6)
            np.testing.assert_allclose(got["sum"][calm], np.array(total)[calm], atol=1e-6)
        for name, column in want.items():
            np.testing.assert_array_equal(
                got[name], np.array(column, np.float64), f"{limits} {name}"
            )
            if name in ("values", "first", "last"):  # -0.0 is not 0.0 (min and max may pick either)
                assert (np.signbit(got[name]) == np.signbit(column))[~np.isnan(column)].all()
        answers.append({name: np.asarray(column).tobytes() for name, column in got.items()})
    server.stop()
    again = start()
    for (series, *limits), before in zip(asked, answers, strict=True):
        for _ in range(2):
            got = ask(again, names[series], *limits)
            assert {name: np.asarray(column).tobytes() for name, column in got.items()} == before


def test_a_greedy_question_gets_fewer_buckets_and_nothing_lost(server):
    with Wire(server.url, server.token) as wire:
        wire.hello()
        wire.send(
            f.Declare(series=[f.SeriesDecl(i, "grad_norm_layer", "", f"l{i}") for i in range(200)])
        )
        values = np.zeros((200, 4000))
        values[:, 1234] = 99.0
        for k in range(8):
            part = slice(500 * k, 500 * k + 500)
            steps = np.arange(4000)[part]
            for half in (0, 1):
                ids = list(range(100 * half, 100 * half + 100))
                record = table(ids, steps, values[ids[0] : ids[-1] + 1, part])
                wire.send(f.Batch(lane="scalars", first=2 * k + half, records=[record]))
        wire.acked("scalars", 15)
    ids = list(ids_of(server).values())
    eventually(lambda: query(server, ids[-1:], buckets=20_000)[1][0]["steps"].size == 4000)
    _, columns = query(server, ids, buckets=20_000)
    assert sum(one["count"].size for one in columns) <= 1 << 18
    assert all(one["count"].sum() == 4000 and one["max"].max() == 99.0 for one in columns)


def test_a_damaged_row_of_the_journal_is_left_out_and_the_rest_is_shown(server, start):
    with Wire(server.url, server.token) as wire:
        wire.hello()
        wire.send(f.Declare(series=[f.SeriesDecl(1, "loss")]))
        for k in range(5):
            wire.send(f.Batch(lane="scalars", first=k, records=[table([1], [k], [[float(k)]])]))
        wire.acked("scalars", 4)
    server.stop()
    with sqlite3.connect(server.data_dir / "nanwatch.sqlite") as database:
        database.execute("UPDATE journal SET frame = x'c1ff00' WHERE first = 2")
        wrong = f.encode(f.Batch(lane="scalars", first=3, records=[table([77], [3], [[3.0]])]))
        database.execute("UPDATE journal SET frame = ? WHERE first = 3", (wrong,))
    again = start()
    columns = query(again, [ids_of(again)["loss", "", ""]])[1][0]
    assert columns["steps"].tolist() == [0, 1, 4]
    assert again.get(f"/api/runs/{RUN}")["last_step"] == 4
