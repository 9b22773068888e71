"""Points over plain HTTP: stored once, judged by the rules, refused with words."""

from __future__ import annotations

import json
import math
import struct
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from nanwatch.contract import frames as f
from nanwatch.contract import limits
from nanwatch.contract.lines import run_id_of
from tests.server.ingest.test_delivery import batch
from tests.server.ingest.test_first_light import eventually, query
from tests.server.wire import RUN, Wire, hello, table


class Poster:
    """A script with the ingest token."""

    def __init__(self, server, token=None):
        self.server = server
        key = {"Authorization": f"Bearer {token or server.token}"}
        self.http = httpx.Client(base_url=server.url, trust_env=False, headers=key)

    def frames(self, *given, **options):
        data = b"".join(
            struct.pack("<I", len(one)) + one
            for one in (x if isinstance(x, bytes) else f.encode(x) for x in given)
        )
        headers = {"Content-Type": "application/x-msgpack"}
        return self.http.post("/ingest/v1/frames", content=data, headers=headers, **options)

    def lines(self, *given, run="r", headers=None, **params):
        text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in given)
        kind = {"Content-Type": "application/x-ndjson", **(headers or {})}
        asked = {"project": "p", "run": run, **params}
        return self.http.post("/ingest/v1/lines", content=text, headers=kind, params=asked)


@pytest.fixture
def post(server):
    return Poster(server)


def said(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["message"]


def stored(server, run, kind, scope="", layer=""):
    """(steps, values) of a series."""
    detail = server.get(f"/api/runs/{run}")
    ids = [
        s["id"]
        for s in detail["series"]
        if (s["kind"], s["scope"], s["layer"]) == (kind, scope, layer)
    ]
    if not ids:
        return [], []
    _, [columns] = query(server, ids[:1], buckets=20000, run=run)
    return columns["steps"].tolist(), columns["values"].tolist()


DECLARE = f.Declare(series=[f.SeriesDecl(1, "loss")])


# --- frames --------------------------------------------------------------------------------------


def test_frames_in_a_body_are_stored_once(server, post):
    answer = post.frames(hello(), DECLARE, batch(0, 3)).json()
    assert (answer["run"], answer["scalars"], answer["events"]) == (RUN, 2, -1)
    assert answer["url"].endswith(f"/r/{RUN}") and answer["rejected"] == []
    assert post.frames(hello(), DECLARE, batch(0, 3)).json()["scalars"] == 2
    assert post.frames(hello(), batch(1, 4)).json()["scalars"] == 4, "declared in another body"
    with Wire(server.url, server.token) as wire:  # the same process goes on over the socket
        assert wire.hello().scalars == 4
    steps, values = eventually(lambda: s if len((s := stored(server, RUN, "loss"))[0]) == 20 else 0)
    assert steps == list(range(20)) == values
    bye = f.Bye(events=-1, scalars=4, reason="done", exit_code=0)
    assert post.frames(hello(), bye).status_code == 200
    assert server.get(f"/api/runs/{RUN}")["end_reason"] == "done"


def test_frames_that_do_not_fit_are_refused_with_words(post):
    for given, status, words in (
        ([], 400, "client frame"),
        ([b"\xc1"], 400, "client frame"),
        ([DECLARE], 400, "expected hello"),
        ([hello(), hello()], 400, "once only"),
        ([hello(run="no id")], 400, "32 hexadecimal"),
        ([hello(proto=[9])], 400, "protocol 1"),
        ([hello(), DECLARE, batch(5)], 409, "a hole: expected scalars from 0"),
        ([hello(), bytes((1 << 20) + 1)], 413, "1048576"),
    ):
        assert words in said(post.frames(*given), status)
    cut = post.http.post(
        "/ingest/v1/frames",
        content=struct.pack("<I", 100) + b"x",
        headers={"Content-Type": "application/x-msgpack"},
    )
    assert "expected 100 bytes" in said(cut, 400)
    bad = table([7], [1], [[1.0]])  # never declared
    answer = post.frames(hello(), DECLARE, f.Batch(lane="scalars", first=0, records=[bad]))
    (refused,) = answer.json()["rejected"]
    assert refused["code"] == "undeclared" and answer.json()["scalars"] == 0


# --- lines ---------------------------------------------------------------------------------------


def test_lines_are_points_of_the_named_run(server, post):
    answer = post.lines(
        {"event": "config", "config": {"gamma": 0.99, "optim": {"lr": 3e-4}}},
        {"step": 7, "loss": 2.1, "update_applied": True, "grad_norm_layer": {"gru": 4.7}},
        "",
        {"step": 8, "loss": "NaN", "q1.q_mean": "-Infinity", "mine": 1e308, "skip": None},
        '{"step": 9.0, "loss": Infinity, "time": 5.5, "stage": "val"}',
    ).json()
    run = run_id_of("p", "r")
    assert (answer["run"], answer["lines"], answer["next"]) == (run, 4, 4)
    steps, values = eventually(lambda: s if len((s := stored(server, run, "loss"))[0]) == 2 else 0)
    assert steps == [7, 8] and values[0] == 2.1 and math.isnan(values[1])
    assert stored(server, run, "grad_norm_layer", layer="gru") == ([7], [4.7])
    assert stored(server, run, "q_mean", scope="q1") == ([8], [-math.inf])
    assert stored(server, run, "custom", layer="mine") == ([8], [1e308])
    detail = server.get(f"/api/runs/{run}")
    assert (detail["project"], detail["name"]) == ("p", "r")
    assert detail["config"] == {"gamma": "0.99", "optim.lr": "0.0003"}
    assert {s["stage"] for s in detail["series"]} == {"train", "val"}
    post.lines({"event": "end"})
    eventually(lambda: server.get(f"/api/runs/{run}")["status"] == "ended")


def test_lines_are_exactly_once_by_numbers_by_key_and_appended_otherwise(server, post):
    def line(step):
        return {"step": step, "loss": float(step)}

    run = run_id_of("p", "r")
    assert post.lines(line(0), line(1), epoch=5).json()["next"] == 2
    again = post.lines(line(0), line(1), line(2), epoch=5, first=0).json()
    assert (again["already_stored"], again["next"], again["scalars"]) == (2, 3, 2)
    assert "from number 3" in said(post.lines(line(9), epoch=5, first=9), 409)
    for _ in range(3):
        keyed = post.lines(line(10), line(11), headers={"Idempotency-Key": "job-1"})
        assert keyed.json()["scalars"] == 1
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: post.lines(line(20 + n)).status_code, range(24)))
    assert answers == [200] * 24
    wanted = [0, 1, 2, 10, 11, *range(20, 44)]
    steps, _ = eventually(
        lambda: s if len((s := stored(server, run, "loss"))[0]) >= len(wanted) else 0
    )
    assert steps == wanted


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: expected a JSON object"),
        ("[1]", "line 2: expected a JSON object, got [1]"),
        ("[" * 100_000, "line 2: expected a JSON object"),
        ('{"loss": 1}', 'line 2: expected a whole number "step"'),
        ('{"step": 1}', "line 2: expected at least one value"),
        ('{"step": -1, "loss": 1}', "line 2: expected a step from 0"),
        ('{"step": 1.5, "loss": 1}', "line 2: expected a step from 0"),
        ('{"step": true, "loss": 1}', "line 2: expected a step from 0"),
        ('{"step": 9007199254740993, "loss": 1}', "line 2: expected a step from 0"),
        ('{"step": 1, "loss": "high"}', "for loss, got high"),
        ('{"step": 1, "loss": [1]}', "for loss, got [1]"),
        ('{"step": 1, "loss": 1, "time": "now"}', "expected a time in seconds"),
        ('{"event": "party"}', "expected an event of config"),
        ('{"event": ["end"]}', "expected an event of config"),
        ('{"event": "config"}', '{"event":"config","config"'),
        ('{"step": 1, "loss": 1, "stage": 3}', "expected texts for stage"),
        (f'{{"step": 1, "loss": 1, "time": 1{"0" * 400}}}', "expected a time in seconds"),
        ('{"event": "note", "text": "\\ud800"}', "line 2: expected text of whole characters"),
        ('{"event": "config", "config": {"\\uDFFF": 1}}', "half a surrogate pair"),
        (json.dumps({"step": 1, **{f"x{n}": n for n in range(4_097)}}), "at most 4096 values"),
    ],
)
def test_one_bad_line_refuses_the_body(server, post, line, words):
    assert words in said(post.lines({"step": 1, "loss": 1.0}, line), 400)
    assert server.get("/api/runs")["runs"] == []


def test_a_body_of_many_series_is_cut_into_frames(server, post):
    layers = {f"encoder.layers.{n}.self_attention.projection.weight": n for n in range(4_000)}
    line = {"grad_norm_layer": layers}
    answer = post.lines(*({"step": step, **line} for step in range(12)), epoch=3)
    assert answer.json()["scalars"] == 11 and answer.json()["rejected"] == []
    run = run_id_of("p", "r")
    assert len(server.get(f"/api/runs/{run}")["series"]) == 4_000
    name = "encoder.layers.3999.self_attention.projection.weight"
    eventually(
        lambda: stored(server, run, "grad_norm_layer", layer=name) == ([*range(12)], [3999.0] * 12)
    )


def test_bodies_are_bounded_and_tokens_needed(server, post):
    assert "bytes of body" in said(post.lines("x" * ((4 << 20) + 1)), 413)
    assert "at most 20000 lines" in said(post.lines(*['{"step":1,"loss":1}'] * 20_001), 413)
    assert "at least one" in said(post.lines("", " "), 400)
    assert said(Poster(server, "wrong").lines({"step": 1, "loss": 1}), 401)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert "application/x-ndjson" in said(post.lines("x", headers=kind), 415)
    path = "/ingest/v1/lines?project=p&run=r"
    cookie = {"Origin": server.url, "Content-Type": "text/plain"}
    assert server.http.post(path, content='{"step":1,"loss":1}', headers=cookie).status_code == 403
    bound = server.http.post("/api/tokens", json={"role": "ingest", "project": "other"}).json()
    other = Poster(server, bound["token"])
    assert "may not write to p" in said(other.lines({"step": 1, "loss": 1}), 403)
    assert server.get("/api/runs")["runs"] == []


def test_lines_do_not_take_a_run_from_its_process(server, post):
    with Wire(server.url, server.token) as wire:
        wire.hello(started_at=1000.0)
        wire.send(DECLARE)
        answer = post.lines({"step": 1, "reward": 2.0}, run=RUN)
        assert answer.status_code == 200 and answer.json()["run"] == RUN
        wire.send(batch(0))
        wire.acked("scalars", 0)
    with Wire(server.url, server.token) as wire:
        wire.hello(started_at=1000.0)
        wire.send(f.Bye(events=-1, scalars=0, reason="mine", exit_code=0))
        eventually(lambda: server.get(f"/api/runs/{RUN}")["end_reason"] == "mine")
    eventually(lambda: stored(server, RUN, "reward") == ([1], [2.0]))


def test_the_rules_see_lines(server, post):
    rng = np.random.default_rng(0)
    norms = np.exp(0.05 * rng.standard_normal(400) + np.maximum(0, np.arange(400) - 200) * 0.08)
    lines = [
        {"step": n, "loss": 1.0, "grad_norm": float(norm), "update_applied": 1}
        for n, norm in enumerate(norms)
    ]
    assert post.lines(*lines, epoch=1).json()["next"] == 400
    run = run_id_of("p", "r")
    assert eventually(lambda: server.get(f"/api/runs/{run}/incidents")["incidents"])


def test_a_run_of_too_many_series_is_told_so(server, post, monkeypatch):
    monkeypatch.setattr(limits, "SERIES_PER_RUN_MAX", 100)
    answer = post.lines(*(f'{{"step":{n},"x{n}":1}}' for n in range(1_900))).json()
    assert answer["scalars"] == 1_899 and answer["rejected"], "what fits is stored, the rest told"
    assert len(server.get(f"/api/runs/{run_id_of('p', 'r')}")["series"]) == 100
