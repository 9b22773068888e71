"""Limits of a project: shown, checked with line numbers, changed while its training runs."""

from __future__ import annotations

import numpy as np

from nanwatch.contract import frames as f
from nanwatch_server.auth.tokens import new_token
from tests.server.ingest.test_first_light import eventually
from tests.server.wire import RUN, Wire, table


def change(server, text: str, project: str = "p"):
    return server.http.put("/api/rules", params={"project": project}, json={"text": text})


def test_the_packaged_limits_are_shown_with_their_sources(server):
    shown = server.get("/api/rules", project="p")
    assert "[skip_streak]" in shown["packaged"] and "# R rule 2" in shown["packaged"]
    assert (shown["text"], shown["updated_at"]) == ("", None)


def test_a_wrong_text_is_refused_with_its_line(server):
    for text, line, word in (
        ("[skip_streak]\nwarning = 3\n[no_such]\nx = 1", 3, "no_such"),
        ("[skip_streak]\n\nwarnings = 3", 3, "warnings"),
        ('[skip_streak]\nwarning = "three"', 2, "expected a number"),
        ("[skip_streak]\nwarning = = 3", 2, ""),
        ("[skip_streak]\nenabled = 1", 2, "expected bool"),
    ):
        answer = change(server, text)
        assert answer.status_code == 422, text
        error = answer.json()["error"]
        assert error["line"] == line and word in error["message"], error
    assert server.get("/api/rules", project="p")["text"] == ""


def test_a_change_is_kept_per_project_and_audited(server, start):
    text = "[skip_streak]\nwarning = 3  # our loader never skips\n"
    answer = change(server, text)
    assert answer.status_code == 200 and answer.json()["updated_by"]
    row = server.get("/api/audit")["rows"][0]
    assert (row["action"], row["target"]) == ("rules.change", "p")
    assert row["detail"] == {"limits": {"skip_streak.warning": "3"}}
    server.stop()
    again = start()
    assert again.get("/api/rules", project="p")["text"] == text
    assert again.get("/api/rules", project="other")["text"] == ""


def test_looking_is_no_changing(server):
    token = new_token(server.parts.store, "respond")
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{server.url}/api/rules?project=p"
    assert server.http.get(url, headers=headers).status_code == 200
    server.http.cookies.clear()
    refused = server.http.put(url, headers=headers, json={"text": ""})
    assert refused.status_code == 403


def test_a_training_that_runs_goes_on_under_its_new_limits(server):
    def send(wire, first: int, start: int, applied: list[float]) -> None:
        norm = [np.nan if not one else 1.0 for one in applied]
        records = [table([1, 2], range(start, start + len(applied)), [applied, norm])]
        wire.send(f.Batch(lane="scalars", first=first, records=records))
        wire.acked("scalars", first)

    def incidents() -> list:
        return server.get(f"/api/runs/{RUN}/incidents")["incidents"]

    with Wire(server.url, server.token) as wire:
        wire.hello()
        declared = [f.SeriesDecl(1, "update_applied"), f.SeriesDecl(2, "grad_norm")]
        wire.send(f.Declare(series=declared))
        send(wire, 0, 0, [1.0] * 30)
        assert change(server, "[skip_streak]\nwarning = 3\n[nonfinite]\nenabled = false").is_success
        send(wire, 1, 30, [0.0] * 3 + [1.0] * 20)
        (found,) = eventually(incidents)
        assert "3 updates skipped" in found["title"]
        rules = {one["rule"]: one for one in server.get(f"/api/runs/{RUN}/rules")["rules"]}
        assert rules["nonfinite"]["why"] == "switched off by the limits"
        assert rules["skip_streak"]["ran"]


def test_what_counts_everywhere_and_what_a_project_says_above_it(server):
    text = "[skip_streak]\nwarning = 3\ncritical = 50\n[plateau]\nenabled = false"
    assert change(server, text, project="").is_success
    assert change(server, "[skip_streak]\nwarning = 7\n[plateau]\nenabled = true").is_success
    shown = server.get("/api/rules", project="p")
    assert shown["below"] == {
        "skip_streak": {"warning": "3", "critical": "50"},
        "plateau": {"enabled": "false"},
    }
    assert shown["limits"] == {"skip_streak": {"warning": "7"}, "plateau": {"enabled": "true"}}
    book = server.parts.rulebook
    assert book.of("p")["skip_streak"] == {"warning": 7, "critical": 50}
    assert book.of("p")["plateau"]["enabled"] is True
    assert book.of("new")["skip_streak"]["warning"] == 3
    names = {one["project"]: one["own_rules"] for one in server.get("/api/projects")["projects"]}
    assert names == {"": True, "p": True}


def test_limits_of_every_project_reach_a_training_that_runs(server):
    with Wire(server.url, server.token) as wire:
        wire.hello()
        wire.send(f.Declare(series=[f.SeriesDecl(1, "update_applied")]))
        for first, applied in enumerate(([1.0] * 30, [0.0] * 3 + [1.0] * 20)):
            steps = range(30 * first, 30 * first + len(applied))
            records = [table([1], steps, [applied])]
            wire.send(f.Batch(lane="scalars", first=first, records=records))
            wire.acked("scalars", first)
            if not first:
                assert change(server, "[skip_streak]\nwarning = 3", project="").is_success
        (found,) = eventually(lambda: server.get(f"/api/runs/{RUN}/incidents")["incidents"])
        assert "3 updates skipped" in found["title"]


def test_a_change_of_somebody_else_is_not_overwritten(server):
    def put(text: str, since: float):
        body = {"text": text, "since": since}
        return server.http.put("/api/rules", params={"project": "p"}, json=body)

    first = put("[plateau]\nenabled = false", 0)
    assert first.is_success
    refused = put("[stall]\nenabled = false", 0)
    assert refused.status_code == 409 and "load them again" in refused.text
    assert put("[stall]\nenabled = false", first.json()["updated_at"]).is_success


def test_a_text_can_be_checked_without_keeping_it(server):
    def check(text: str):
        return server.http.post("/api/rules/check", json={"text": text})

    said = check("[stall]\nenabled = false\n[q_growth]\nabsolute = 2e4").json()
    assert said == {"limits": {"stall": {"enabled": "false"}, "q_growth": {"absolute": "20000.0"}}}
    assert check("[stall]\nenabled = no").json()["error"]["line"] == 2
    assert server.get("/api/rules", project="p")["text"] == ""
