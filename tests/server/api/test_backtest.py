"""Limits that are tried on the last runs: a process of its own, one at a time, over the API."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nanwatch_server.auth.tokens import new_token
from nanwatch_server.backtest.bench import Bench
from nanwatch_server.detect.registry import limits
from tests.server.ingest.test_first_light import eventually
from tests.server.wire import skipping_run

PATIENT_S = 60.0


def start(server, text: str, **more):
    project = more.pop("project", "p")
    body = {"text": text, **more}
    return server.http.post("/api/rules/backtest", params={"project": project}, json=body)


def ended(server, seconds: float = PATIENT_S) -> dict:
    """The back-test once it is over."""

    def look():
        job = server.get("/api/rules/backtest")["backtest"]
        return job if job["state"] != "running" else None

    return eventually(look, seconds)


def test_what_is_new_and_what_goes_away(server):
    quiet, mild, sick = (
        skipping_run(server, n, skips=skips) for n, skips in ((1, 0), (2, 4), (3, 30))
    )
    skipping_run(server, 4, skips=30, project="other")
    (known,) = eventually(lambda: server.get(f"/api/runs/{sick}/incidents")["incidents"])
    assert server.get("/api/rules/backtest") == {"backtest": None}

    answer = start(server, "[skip_streak]\nwarning = 3\ncritical = 200\nshare = 2.0\n")
    assert answer.status_code == 202 and answer.json()["state"] == "running"
    job = ended(server)
    assert job["state"] == "done" and not job["error"], job
    assert job["sentence"] == "would have fired 2× on the last 3 runs, in 2 of them"
    assert [run["id"] for run in job["runs"]] == [sick, mild, quiet]
    same, new, none = (run["incidents"] for run in job["runs"])
    assert [(one["state"], one["id"]) for one in same] == [("same", known["id"])]
    assert (same[0]["severity_before"], same[0]["severity"]) == ("critical", "warning")
    assert same[0]["rules"] == ["skip_streak"]
    assert [(one["state"], one["id"], one["severity"]) for one in new] == [("new", "", "warning")]
    assert new[0]["onset_step"] == 300 and none == []

    assert start(server, "[skip_streak]\nenabled = false", last=1).status_code == 202
    (run,) = ended(server)["runs"]
    assert run["fired"] == 0 and [one["state"] for one in run["incidents"]] == ["gone"]
    assert run["incidents"][0]["id"] == known["id"]
    assert server.get(f"/api/runs/{sick}/incidents")["incidents"] == [known], "it changes nothing"


def test_every_project_goes_below_what_a_project_says(server):
    skipping_run(server, 1, skips=4)
    skipping_run(server, 2, skips=4, project="other")
    own = {"text": "[skip_streak]\nwarning = 5"}
    assert server.http.put("/api/rules", params={"project": "other"}, json=own).is_success
    start(server, "[skip_streak]\nwarning = 3", project="")
    job = ended(server)
    fired = {run["project"]: run["fired"] for run in job["runs"]}
    assert fired == {"p": 1, "other": 0}


def test_a_text_that_does_not_fit_is_refused_with_its_line_and_nothing_begins(server):
    answer = start(server, "[skip_streak]\nwarnings = 3")
    assert answer.status_code == 422 and answer.json()["error"]["line"] == 2
    assert start(server, "", last=51).status_code == 422
    assert server.get("/api/rules/backtest") == {"backtest": None}


def test_one_at_a_time_and_it_can_be_cancelled(server):
    for number in range(3):
        skipping_run(server, number, tables=40)
    job = start(server, "").json()
    again = start(server, "")
    assert again.status_code == 409 and "is trying limits of project p" in again.text
    assert server.http.delete("/api/rules/backtest/nonsense").status_code == 404
    cancelled = server.http.delete(f"/api/rules/backtest/{job['id']}")
    assert cancelled.json()["state"] == "cancelled"
    assert ended(server)["state"] == "cancelled"
    assert start(server, "", last=1).status_code == 202
    assert ended(server)["state"] == "done"


def test_only_who_may_change_limits_may_try_them(server):
    headers = {"Authorization": f"Bearer {new_token(server.parts.store, 'respond')}"}
    server.http.cookies.clear()
    tried = server.http.post("/api/rules/backtest?project=p", headers=headers, json={"text": ""})
    assert tried.status_code == 403
    assert server.http.get("/api/rules/backtest", headers=headers).status_code == 200


def test_it_is_ended_when_it_takes_too_long(server, data_dir: Path):
    for number in range(3):
        skipping_run(server, number, tables=40)
    bench = Bench(data_dir, seconds_most=0.05)
    bench.start("p", "", 3, "somebody")
    job = eventually(lambda: (found := bench.latest()) and found["ended_at"] and found, 20)
    assert job["state"] == "failed" and "it was ended after" in job["error"]
    bench.close()


def test_a_child_that_dies_is_told_and_not_waited_for(server, data_dir: Path):
    for number in range(3):
        skipping_run(server, number, tables=40)
    bench = Bench(data_dir)
    bench.start("p", "", 3, "somebody")
    assert bench._child is not None
    bench._child.kill()
    job = eventually(lambda: (found := bench.latest()) and found["ended_at"] and found, 20)
    assert (job["state"], job["error"][:10]) == ("failed", "it ended u")
    assert bench.start("p", "", 1, "somebody")["state"] == "running"
    began = time.monotonic()
    bench.close()
    assert time.monotonic() - began < 5
    left = bench.latest()
    assert left is not None and left["state"] == "cancelled"


def test_every_rule_has_words_and_its_packaged_limits(server):
    rules = server.get("/api/rules", project="p")["rules"]
    assert {one["name"] for one in rules} == set(limits())
    for one in rules:
        assert one["title"] and one["text"].endswith(".") and one["group"], one
        told = {limit["name"]: limit["value"] for limit in one["limits"]}
        packaged = {k: v for k, v in limits()[one["name"]].items() if k != "enabled"}
        assert {name: float(value) for name, value in told.items()} == pytest.approx(packaged)
    from nanwatch_server.api.rule_words import WORDS

    assert set(WORDS) == set(limits()), "a rule without words: add them to api/rule_words.py"
