"""The binary frame, and a hub that a slow browser cannot hold up."""

from __future__ import annotations

import asyncio
import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanwatch_server.live.frames import FrameWriter, block, plain, read
from nanwatch_server.live.hub import BYTES_MAX, FRAMES_MAX, PENDING_POINTS_MAX, Hub, Subscriber
from nanwatch_server.live.wall import COLUMNS, SPARK_BUCKETS, spark, vitals


@given(st.lists(st.lists(st.floats(width=64), max_size=9), max_size=5), st.text(max_size=30))
def test_frames_keep_every_bit_and_alignment(arrays, text):
    frame = FrameWriter("series")
    offsets = [frame.add(np.array(values, np.float64)) for values in arrays]
    data = frame.finish(name=text, offsets=offsets)
    header, blocks = read(data)
    assert header == {"type": "series", "name": text, "offsets": offsets}
    assert (len(data) - len(blocks)) % 8 == 0 and all(offset % 8 == 0 for offset in offsets)
    for values, offset in zip(arrays, offsets, strict=True):
        wanted = np.array(values, np.float64).tobytes()
        assert block(blocks, offset, len(values)).tobytes() == wanted


def test_a_number_that_is_not_finite_never_enters_the_header():
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError):
            plain("run", loss=value)


def test_a_slow_browser_keeps_the_newest_and_is_told_what_it_lost():
    async def scenario():
        hub, slow = Hub(), Subscriber()
        hub.watch(slow, "r")
        sender = threading.Thread(
            target=lambda: [hub.publish("r", plain("x", i=i)) for i in range(FRAMES_MAX + 50)]
        )
        sender.start()
        await asyncio.to_thread(sender.join)
        got = [read(await slow.get())[0] for _ in range(FRAMES_MAX + 1)]
        assert got[0] == {"type": "lagged", "dropped": 50}
        assert [one["i"] for one in got[1:]] == list(range(50, FRAMES_MAX + 50))
        for _ in range(3):
            hub.publish("r", b"x" * (BYTES_MAX - 10))
        assert read(await slow.get())[0] == {"type": "lagged", "dropped": 2}
        assert len(await slow.get()) == BYTES_MAX - 10

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_only_who_watches_gets_frames():
    async def scenario():
        hub, one, two = Hub(), Subscriber(), Subscriber()
        hub.watch(one, "a")
        hub.watch(two, "b")
        hub.publish("a", plain("for-a"))
        hub.publish("b", plain("for-b"))
        assert read(await one.get())[0]["type"] == "for-a"
        assert read(await two.get())[0]["type"] == "for-b"
        hub.unwatch(one, "a")
        assert hub.watched() == {"b"}
        hub.leave(two)
        hub.publish("b", plain("late"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(two.get(), 0.05)

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_points_of_the_same_series_are_joined_into_one_frame():
    async def scenario():
        hub, browser = Hub(), Subscriber()
        hub.points("r", [1], np.arange(1), np.zeros(1), np.zeros((1, 1)))  # nobody watches
        hub.watch(browser, "r")
        for i in range(3):
            steps = np.array([2 * i, 2 * i + 1])
            values = np.array([[math.nan, i], [i, math.inf]])
            hub.points("r", [7, 8], steps, steps / 10, values)
        hub.flush()
        header, blocks = read(await browser.get())
        [table] = header["tables"]
        assert (header["run"], table["series"], table["n"]) == ("r", [7, 8], 6)
        assert block(blocks, table["steps"], 6).tolist() == [0, 1, 2, 3, 4, 5]
        values = block(blocks, table["values"], 2, 6)
        np.testing.assert_array_equal(values[0], [math.nan, 0, math.nan, 1, math.nan, 2])
        np.testing.assert_array_equal(values[1], [0, math.inf, 1, math.inf, 2, math.inf])
        many = np.zeros((1, PENDING_POINTS_MAX))
        for _ in range(3):  # more than fits between two flushes
            hub.points("r", [7], np.arange(PENDING_POINTS_MAX), many[0], many)
        hub.flush()
        kinds = []
        while "points" not in kinds:
            kinds.append(read(await browser.get())[0]["type"])
        assert "lagged" in kinds

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_vitals_of_a_clipped_run():
    steps = np.arange(100)
    columns = {
        "loss": np.linspace(2.0, 1.0, 100),
        "grad_norm": np.where(steps % 4 == 0, 9.0, 1.0),
        "clip_threshold": np.full(100, 5.0),
        "update_applied": np.where(steps < 90, 1.0, 0.0),
    }

    def newest(kind, count):
        values = columns.get(kind, np.empty(0))
        return steps[: len(values)], steps[: len(values)] * 0.5, values

    row = dict(zip(COLUMNS, vitals(newest, step=99, age_s=1.5, nonfinite_total=0), strict=True))
    assert row["clip_share"] == 0.25 and row["applied_share"] == 0.9
    assert row["steps_per_s"] == 2.0 and row["loss"] == 1.0 and -0.5 < row["loss_trend"] < -0.2
    columns.clear()
    empty = vitals(newest, step=-1, age_s=0.0, nonfinite_total=0.0)
    assert np.isnan(empty[:-2]).all() and empty[-1] == 0


def test_a_sparkline_is_short_and_keeps_nan():
    values = np.arange(10_000.0)
    values[5000] = math.nan
    line = spark(values)
    assert len(line) == SPARK_BUCKETS and np.isnan(line).sum() == 1
    assert np.nanmin(np.diff(line[:50])) > 0
    assert spark(np.array([1.0, math.inf])).tolist() == [1.0, math.inf]
