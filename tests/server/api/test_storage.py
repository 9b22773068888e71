"""Room that runs take and retention of projects, over the API."""

from __future__ import annotations

from nanwatch_server.auth.tokens import new_token
from tests.server.ingest.test_first_light import eventually
from tests.server.wire import RUN, Wire, skipping_run


def put(server, project: str, **body):
    return server.http.put("/api/retention", params={"project": project}, json=body)


def measured(server) -> dict:
    def look():
        found = server.get("/api/storage")
        return found if found["measured_at"] and not found["measuring"] else None

    return eventually(look, 20)


def test_projects_runs_and_the_disk_are_told(server):
    run = skipping_run(server, 1)
    found = measured(server)
    (project,) = found["projects"]
    assert (project["project"], project["runs"], project["own"]) == ("p", 1, False)
    assert project["bytes"] > 0 and found["default_days"] is None
    assert [one["id"] for one in found["largest"]] == [run]
    assert found["largest"][0]["name"] == "run1" and found["largest"][0]["status"]
    assert found["database"]["kind"] == "SQLite" and found["database"]["bytes"] > project["bytes"]
    assert 0 < found["disk"]["free_bytes"] < found["disk"]["total_bytes"]
    assert found["backups"] == {"count": 0, "bytes": 0, "newest_at": None}
    one = server.get(f"/api/runs/{run}/storage")
    assert one["series"] == 2 and one["bytes"] > 0 and one["pinned"] is False
    server.http.put(f"/api/runs/{run}/pin")
    assert server.get(f"/api/runs/{run}/storage")["pinned"] is True


def test_retention_is_set_per_project_audited_and_taken_back(server):
    skipping_run(server, 1)

    def kept() -> tuple:
        (project,) = server.get("/api/storage")["projects"]
        return project["days"], project["own"]

    assert put(server, "p", days=30).json() == {"project": "p", "days": 30.0, "own": True}
    assert kept() == (30.0, True)
    row = server.get("/api/audit")["rows"][0]
    assert (row["action"], row["target"]) == ("retention.change", "p")
    assert row["detail"] == {"days": "30.0"}
    assert put(server, "p", days=None).is_success and kept() == (None, True)
    assert put(server, "p", default=True).is_success and kept() == (None, False)
    assert server.get("/api/audit")["rows"][0]["detail"] == {"days": "default"}
    assert server.get("/api/retention", project="p", days=30) == {"runs": 1, "whole": 0}


def test_what_makes_no_sense_is_refused(server):
    for days in (0, -1, 1e9, True, "30"):
        assert put(server, "p", days=days).status_code == 422, days
    assert put(server, "").status_code == 422
    answer = server.http.get("/api/retention", params={"project": "p", "days": "nan"})
    assert answer.status_code == 422


def test_setting_it_takes_an_admin_and_looking_does_not(server):
    headers = {"Authorization": f"Bearer {new_token(server.parts.store, 'control')}"}
    server.http.cookies.clear()
    url = "/api/retention?project=p"
    assert server.http.put(url, headers=headers, json={"days": 1}).status_code == 403
    assert server.http.get("/api/storage", headers=headers).status_code == 200


def test_a_live_run_is_refused_with_a_sentence_and_a_deleted_one_is_off_the_sums(server):
    with Wire(server.url, server.token) as wire:
        wire.hello()
        refused = server.http.delete(f"/api/runs/{RUN}")
        assert refused.status_code == 409 and "stop the training first" in refused.text
    run = skipping_run(server, 1)
    measured(server)
    assert server.http.delete(f"/api/runs/{run}", params={"force": True}).is_success
    assert run not in [one["id"] for one in measured(server)["largest"]]
    eventually(lambda: server.get("/api/storage")["removing"] == 0, 20)
