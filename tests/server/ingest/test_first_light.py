"""The whole way of a point: socket, journal, tail, query."""

from __future__ import annotations

import math
import struct
import time

import numpy as np

from nanwatch.contract import frames as f
from nanwatch_server.live.frames import block, read
from tests.server.wire import RUN, Wire, table


def query(server, ids, run=RUN, **params):
    """Columns per series of a `/series` answer."""
    ids_text = ",".join(str(one) for one in ids)
    answer = server.http.get(f"/api/runs/{run}/series", params={"ids": ids_text, **params})
    assert answer.status_code == 200, answer.text
    header, blocks = read(answer.content)
    return header, [
        {
            name: block(blocks, offset, one["n"])
            for name, offset in one.items()
            if name not in ("id", "mode", "n")
        }
        | {"mode": one["mode"]}
        for one in header["series"]
    ]


def eventually(check, seconds=5.0):
    """The first true answer of `check`."""
    end = time.monotonic() + seconds
    while not (answer := check()) and time.monotonic() < end:
        time.sleep(0.02)
    assert answer
    return answer


def ids_of(server, run=RUN):
    return {
        (one["kind"], one["scope"], one["layer"]): one["id"]
        for one in server.get(f"/api/runs/{run}")["series"]
    }


SPECIAL = [math.nan, math.inf, -math.inf, -0.0, 1e-320, 1.5]


def test_every_number_comes_back_bit_for_bit(server, start):
    payload = struct.unpack("<d", struct.pack("<Q", 0x7FF8DEADBEEF0001))[0]
    values = [*SPECIAL, payload]
    with Wire(server.url, server.token) as wire:
        assert wire.hello().scalars == -1
        wire.send(f.Declare(series=[f.SeriesDecl(5, "loss"), f.SeriesDecl(9, "lr", "policy")]))
        wire.send(
            f.Batch(
                lane="scalars", first=0, records=[table([5, 9], range(7), [values, values[::-1]])]
            )
        )
        wire.acked("scalars", 0)
    wanted = np.array([values, values[::-1]]).tobytes()

    def stored(server):
        ids = ids_of(server)
        _, columns = query(server, [ids["loss", "", ""], ids["lr", "policy", ""]])
        return b"".join(one["values"].tobytes() for one in columns) == wanted

    eventually(lambda: stored(server))
    server.stop()
    again = start()  # the tail is empty now: the numbers come from the journal
    assert stored(again)
    assert query(again, ids_of(again).values())[1][0]["steps"].tolist() == list(range(7))
