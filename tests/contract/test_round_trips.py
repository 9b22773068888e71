"""Frames of wire v1 come back as they were, bit for bit, and nothing else is taken for one."""

from __future__ import annotations

import math
import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanwatch.contract import frames as f
from nanwatch.contract.limits import is_name, to_name

numbers = st.one_of(
    st.floats(width=64), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e-320])
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
seqs = st.integers(0, (1 << 53) - 1)
maps = st.dictionaries(texts, texts, max_size=3)


@st.composite
def tables(draw):
    k, n = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["f8", "f4"]))
    steps = draw(st.lists(seqs, min_size=n, max_size=n))
    size = k * n * (8 if kind == "f8" else 4)
    return f.Table(
        ids=draw(st.lists(seqs, min_size=k, max_size=k)),
        steps=struct.pack(f"<{n}q", *steps),
        times=struct.pack(f"<{n}d", *draw(st.lists(numbers, min_size=n, max_size=n))),
        values=draw(st.binary(min_size=size, max_size=size)),
        dtype=kind,
    )


records = st.one_of(
    tables(),
    st.builds(
        f.Mark,
        what=st.sampled_from(["config", "task", "eval", "fit", "resume", "note", "coverage"]),
        step=seqs,
        time=numbers,
        text=texts,
        data=maps,
    ),
    st.builds(
        f.NonFinite,
        step=seqs,
        time=numbers,
        where=st.sampled_from(["loss", "gradient", "buffer", "moment", "watched"]),
        nan=seqs,
    ),
    st.builds(
        f.Forensics,
        step=seqs,
        time=numbers,
        trigger=st.sampled_from(["loss", "gradient", "parameter", "skips", "command"]),
        verdict=st.sampled_from(["layer", "all_at_once", "loss", "not_found"]),
        cause=st.sampled_from(["nan", "overflow", "unknown"]),
        first_forward=texts,
        producers=st.lists(texts, max_size=3),
        text=texts,
        facts=maps,
        tracing_steps=seqs,
    ),
    st.builds(f.CheckpointSaved, step=seqs, time=numbers, path=texts, bytes=seqs, sha256=texts),
    st.builds(
        f.CommandResult,
        id=texts,
        state=st.sampled_from(["applied", "rejected", "failed", "expired"]),
        time=numbers,
        before=st.dictionaries(texts, numbers, max_size=3),
        factor=numbers,
    ),
    st.builds(f.Problem, time=numbers, kind=texts, count=seqs),
)
client_frames = st.one_of(
    st.builds(f.Batch, lane=st.sampled_from(f.LANES), first=seqs, records=st.lists(records)),
    st.builds(f.Gap, lane=st.sampled_from(f.LANES), first=seqs, last=seqs, reason=texts),
    st.builds(f.Beat, step=seqs, wall=numbers, overhead=numbers),
    st.builds(f.Accepted, id=texts, nonce=seqs),
    st.builds(f.Bye, events=seqs, scalars=seqs, exit_code=st.none() | st.integers(-255, 255)),
    st.builds(
        f.Declare, series=st.lists(st.builds(f.SeriesDecl, seqs, texts, texts, texts, texts))
    ),
)
server_frames = st.one_of(
    st.builds(f.Ack, lane=st.sampled_from(f.LANES), upto=seqs, credit=seqs),
    st.builds(f.Slow, credit=seqs, retry=numbers),
    st.builds(f.Go, id=texts, nonce=seqs),
    st.builds(f.Revoke, id=texts),
    st.builds(f.Command, id=texts, kind=texts, args=st.just({"lr": 1e-4}), expires_in=numbers),
)


@settings(max_examples=200, deadline=None)
@given(client_frames)
def test_client_frames(frame):
    data = f.encode(frame)
    again = f.decode_client(data)
    assert type(again) is type(frame) and f.encode(again) == data


@settings(max_examples=100, deadline=None)
@given(server_frames)
def test_server_frames(frame):
    data = f.encode(frame)
    again = f.decode_server(data)
    assert type(again) is type(frame) and f.encode(again) == data


@given(tables())
def test_the_shape_of_a_table_is_checked(table):
    k, n = f.table_shape(table)
    assert (k, 8 * n) == (len(table.ids), len(table.steps))
    for changed in (
        {"values": table.values + b"\0"},
        {"times": table.times[:-1]},
        {"steps": table.steps + b"\0" * 8},
        {"ids": [*table.ids, 1]},
    ):
        with pytest.raises(f.FrameError):
            f.table_shape(msgspec.structs.replace(table, **changed))


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_one_kind_of_error(data):
    for decode in (f.decode_client, f.decode_server):
        try:
            decode(data)
        except f.FrameError:
            pass


@given(client_frames, texts)
def test_unknown_fields_are_ignored(frame, text):
    raw = msgspec.msgpack.decode(f.encode(frame))
    again = f.decode_client(msgspec.msgpack.encode(raw | {"from_the_future": text}))
    assert f.encode(again) == f.encode(frame)


@given(texts)
def test_every_text_has_a_nearest_name(text):
    assert is_name(to_name(text))
    assert to_name(to_name(text)) == to_name(text)


def test_texts_that_are_no_unicode_are_written_out():
    mark = f.Mark(what="note", step=3, time=float("nan"), text="\udcff.csv", data={"\ud800": "é"})
    table = f.Table(ids=[1], steps=b"\0" * 8, times=b"\0" * 8, values=b"\xff" * 8)
    sent = f.Batch(lane="scalars", first=0, records=[mark, table])
    came = f.decode_client(f.encode(sent))
    assert isinstance(came, f.Batch) and came.records[1] == table
    told = came.records[0]
    assert isinstance(told, f.Mark) and told.text == "\\udcff.csv"
    assert told.data == {"\\ud800": "é"} and told.time != told.time
