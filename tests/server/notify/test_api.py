"""Channels and routes over HTTP on a real server: who may, what is shown, what is written down."""

from __future__ import annotations

import json
import time

import httpx
import numpy as np
import pytest

from nanwatch.contract import frames as f
from nanwatch_server.auth.tokens import new_token
from tests.server.ingest.test_first_light import eventually
from tests.server.notify.kit import free_port, incident, stored_run
from tests.server.wire import RUN, Wire, table

SECRET = "Sup3rS3cretPath"
PATIENCE_S = 60.0


@pytest.fixture
def server(start):
    return start(allow_local_webhooks=True, public_url="https://nan.example/")


def send(server, method, path, body=None, **options):
    return server.http.request(method, f"/api/notifications{path}", json=body, **options)


def made(server, url, name="hook", **more):
    answer = send(server, "POST", "/channels", {"name": name, "url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def overview(server):
    return server.get("/api/notifications")


def test_a_channel_is_made_shown_changed_and_deleted(server, hook):
    url = f"http://127.0.0.1:{hook.port}/{SECRET}"
    channel = made(server, url)
    assert channel["service"] == "Signed webhook" and channel["signed"]
    assert channel["signing_key"].startswith("whsec_")
    assert channel["shown"] == "http://127.0.0.1/…"
    seen = overview(server)
    assert seen["allow_local"] is True
    assert [one["name"] for one in seen["channels"]] == ["hook"]
    [route] = seen["routes"]
    assert (route["project"], route["min_severity"], route["quiet"]) == ("", "warning", None)

    path = f"/channels/{channel['id']}"
    changed = send(server, "PUT", path, {"name": "ci", "enabled": False}).json()
    assert (changed["name"], changed["enabled"]) == ("ci", False)
    changed = send(server, "PUT", path, {"url": f"json://127.0.0.1:{hook.port}/{SECRET}"}).json()
    assert (changed["service"], changed["signed"]) == ("JSON", False)
    assert send(server, "DELETE", path).json() == {"id": channel["id"], "deleted": True}
    assert overview(server)["channels"] == overview(server)["routes"] == []
    for method in ("PUT", "DELETE"):
        gone = send(server, method, path, {})
        assert gone.status_code == 404 and "there is no channel" in gone.text


def test_routes_are_made_changed_and_deleted(server, hook):
    channel = made(server, hook.url, min_severity=None)
    assert overview(server)["routes"] == []
    night = {"start": "22:00", "end": "07:00", "zone": "Europe/Berlin", "critical_passes": True}
    body = {"channel_id": channel["id"], "project": "rl", "min_severity": "critical"}
    route = send(server, "POST", "/routes", body | {"quiet": night, "resolved": True})
    assert route.status_code == 201 and route.json()["quiet"] == night
    path = f"/routes/{route.json()['id']}"
    changed = send(server, "PUT", path, body | {"enabled": False}).json()
    assert (changed["quiet"], changed["resolved"], changed["enabled"]) == (None, False, False)
    assert send(server, "DELETE", path).status_code == 200
    assert overview(server)["routes"] == []


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/channels", {"name": "", "url": "{hook}"}, "expected a name"),
        ("/channels", {"name": "a\x00b", "url": "{hook}"}, "expected a name"),
        ("/channels", {"name": "x", "url": "ftp://a"}, "expected https://"),
        ("/channels", {"name": "x", "url": "slack://a"}, "this is no slack:// address"),
        ("/channels", {"name": "x", "url": "http://169.254.169.254/"}, "metadata"),
        ("/channels", {"name": "x", "url": "{hook}", "min_severity": "loud"}, "min_severity"),
        ("/channels", {"name": "x"}, "url"),
        ("/routes", {"channel_id": "nowhere"}, "there is no channel"),
        ("/routes", {"project": "a b"}, "name of a project"),
        ("/routes", {"quiet": {"start": "9", "end": "10:00", "zone": "UTC"}}, "HH:MM"),
        ("/routes", {"quiet": {"start": "09:00", "end": "24:00", "zone": "UTC"}}, "HH:MM"),
        ("/routes", {"quiet": {"start": "09:00", "end": "09:00", "zone": "UTC"}}, "different"),
        ("/routes", {"quiet": {"start": "09:00", "end": "10:00", "zone": "Mars"}}, "time zone"),
        ("/routes", {"quiet": {"start": "09:00", "end": "10:00", "zone": "../x"}}, "time zone"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(server, hook, path, body, said):
    channel = made(server, hook.url, "first")
    if path == "/routes":
        body = {"channel_id": channel["id"], **body}
    answer = send(server, "POST", path, json.loads(json.dumps(body).replace("{hook}", hook.url)))
    assert answer.status_code in (404, 422) and said in answer.json()["error"]["message"]
    assert len(overview(server)["channels"]) == 1


def test_names_are_unique(server, hook):
    made(server, hook.url, "one")
    answer = send(server, "POST", "/channels", {"name": " one ", "url": hook.url})
    assert answer.status_code == 422 and "already" in answer.text


def test_local_targets_need_the_setting(start, hook):
    server = start()
    answer = send(server, "POST", "/channels", {"name": "x", "url": hook.url})
    assert answer.status_code == 422
    assert "NANWATCH_ALLOW_LOCAL_WEBHOOKS=1" in answer.json()["error"]["message"]
    assert overview(server)["allow_local"] is False


def test_the_test_button_says_what_became_of_it(server, hook):
    good = made(server, hook.url, "good")
    bad = made(server, f"http://127.0.0.1:{free_port()}/x", "bad")
    done = send(server, "POST", f"/channels/{good['id']}/test", {}, timeout=60).json()
    assert done["ok"] and done["error"] == ""
    assert hook.got[0].json["event"] == "test" and hook.got[0].id.startswith("test|")
    done = send(server, "POST", f"/channels/{bad['id']}/test", {}, timeout=60).json()
    assert not done["ok"] and "refused" in done["error"]
    assert send(server, "POST", "/channels/nowhere/test", {}).status_code == 404


def test_nothing_secret_comes_out_anywhere(server, hook, data_dir, capfd):
    url = f"http://ada:{SECRET}@127.0.0.1:{hook.port}/{SECRET}"
    channel = made(server, url)
    key = channel["signing_key"]
    hook.answers[:] = [500, 500]
    send(server, "POST", f"/channels/{channel['id']}/test", {}, timeout=60)
    explode(server)
    eventually(lambda: len(hook.got) == 2, PATIENCE_S)
    eventually(lambda: rows(server)[0]["detail"], PATIENCE_S)
    for path in ("/api/notifications", "/api/notifications/deliveries", "/api/audit?limit=100"):
        text = server.http.get(path).text
        assert SECRET not in text and key not in text and "whsec" not in text
    printed = "".join(capfd.readouterr())
    assert SECRET not in printed and key not in printed
    assert (data_dir / "nanwatch.sqlite").stat().st_mode & 0o077 == 0


def test_every_change_is_audited(server, hook):
    channel = made(server, hook.url)
    send(server, "PUT", f"/channels/{channel['id']}", {"name": "b"})
    send(server, "POST", f"/channels/{channel['id']}/test", {}, timeout=60)
    [route] = overview(server)["routes"]
    send(server, "PUT", f"/routes/{route['id']}", {"channel_id": channel["id"]})
    send(server, "DELETE", f"/routes/{route['id']}")
    send(server, "DELETE", f"/channels/{channel['id']}")
    rows = server.get("/api/audit")["rows"][::-1]
    actions = [row["action"] for row in rows if row["action"].startswith("notify.")]
    assert actions == [
        "notify.channel.create",
        "notify.route.create",
        "notify.channel.change",
        "notify.channel.test",
        "notify.route.change",
        "notify.route.delete",
        "notify.channel.delete",
    ]
    first = next(row for row in rows if row["action"] == "notify.channel.create")
    assert first["actor"].startswith("browser:") and first["target"] == channel["id"]
    assert first["detail"] == {
        "name": "hook", "service": "Signed webhook", "address": "http://127.0.0.1/…",
        "enabled": True,
    }  # fmt: skip


def explode(server):
    """A run of project `p` whose gradient explodes, through the front door."""
    steps = np.arange(600)
    norm = (1 + 0.1 * np.sin(steps * 1.7)) * 2.0 ** (np.maximum(steps - 400, 0) / 6)
    one = np.ones(600)
    kinds = ("loss", "grad_norm", "clip_threshold", "update_applied")
    with Wire(server.url, server.token) as wire:
        wire.hello(name="sac-ant", started_at=time.time())
        wire.send(f.Declare(series=[f.SeriesDecl(i, kind) for i, kind in enumerate(kinds)]))
        record = table(list(range(4)), steps, [norm, norm, one, one])
        wire.send(f.Batch(lane="scalars", first=0, records=[record]))
        wire.acked("scalars", 0)


def rows(server, http=None, **params):
    answer = (http or server.http).get("/api/notifications/deliveries", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["deliveries"]


def test_from_a_point_to_a_message_with_a_link_people_can_open(server, hook):
    made(server, hook.url)
    began = time.time()
    explode(server)
    eventually(lambda: hook.got, PATIENCE_S)
    body = hook.got[0].json
    known = server.get(f"/api/runs/{RUN}/incidents")["incidents"][-1]
    assert body["incident"]["url"].startswith("https://nan.example/a/")
    assert known["title"] in body["text"] and "sac-ant" in body["text"]
    assert hook.got[0].at - began < PATIENCE_S
    told = eventually(lambda: [r for r in rows(server) if r["state"] == "sent"], PATIENCE_S)
    assert told[0]["channel"] == "hook" and told[0]["run_name"] == "sac-ant"
    assert told[0]["title"] and told[0]["done_at"] >= told[0]["created_at"]
    viewer = httpx.Client(
        base_url=server.url,
        trust_env=False,
        headers={"Authorization": "Bearer " + new_token(server.parts.store, "view")},
    )
    assert rows(server, viewer, run=RUN, channel=told[0]["channel_id"])
    assert rows(server, viewer, run="0" * 32) == []
    assert viewer.get("/api/notifications").status_code == 403
    [route] = overview(server)["routes"]
    body = {"channel_id": told[0]["channel_id"], "resolved": True}
    assert send(server, "PUT", f"/routes/{route['id']}", body).status_code == 200
    over = server.http.post(f"/api/incidents/{told[0]['incident_id']}/resolve", json={})
    assert over.json()["state"] == "resolved", "by a person, in the same transaction as this"
    assert rows(server)[0]["what"] == "resolved"
    for method, path in [("POST", "/channels"), ("POST", "/channels/x/test"), ("POST", "/routes"),
                         ("DELETE", "/routes/x"), ("PUT", "/channels/x")]:  # fmt: skip
        answer = viewer.request(
            method, f"/api/notifications{path}", json={}, headers={"X-Nanwatch": "1"}
        )
        assert answer.status_code == 403


def test_the_log_comes_in_pages(server, hook):
    made(server, hook.url)
    store = server.parts.store
    stored_run(store)
    with store.write() as uow:
        for n in range(7):
            one = incident(id=f"i{n}")
            uow.put_incident(one)
            server.parts.notifications.note(uow, one)
    page = server.get("/api/notifications/deliveries", limit=4)
    rest = server.get("/api/notifications/deliveries", limit=4, after=page["next"])
    found = [one["incident_id"] for one in page["deliveries"] + rest["deliveries"]]
    assert found == [f"i{n}" for n in range(6, -1, -1)] and rest["next"] is None
    for query in ("limit=0", "limit=x", "after=-1"):
        answer = server.http.get(f"/api/notifications/deliveries?{query}")
        assert answer.status_code == 422
