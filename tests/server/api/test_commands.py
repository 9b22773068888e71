"""Commands over HTTP: real app, gate, desk and store; the run's socket is a list."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import msgspec
import pytest
from fastapi import FastAPI

from nanwatch.contract.commands import ControlOffer
from nanwatch.contract.frames import CommandResult, RunInfo
from nanwatch_server.api import audit, commands
from nanwatch_server.auth.tokens import new_token
from nanwatch_server.control.queue import Desk

OFFER = ControlOffer(lr=(1e-6, 1e-2), checkpoint=True, stop=True)


class Socket:
    """What the server sends to the run."""

    def __init__(self, run_id: str) -> None:
        self.run_id, self.epoch, self.frames = run_id, 1, []

    def send(self, frame) -> None:
        self.frames.append(frame)


@pytest.fixture
def lab(store, server_kit) -> Iterator[SimpleNamespace]:
    app = FastAPI(openapi_url=None)
    app.include_router(commands.router)
    app.include_router(audit.router)
    rates = {"policy": 3e-4}
    desk = app.state.desk = Desk(store, latest_lr=lambda run_id: (rates, rates))
    desk.start()
    run_id = uuid.uuid4().hex
    with store.write() as uow:
        info = RunInfo(id=run_id, project="p", name="sac-ant", started_at=1.0)
        uow.upsert_run(info, msgspec.to_builtins(OFFER), time.time())
    socket = Socket(run_id)
    desk.run_connected(run_id, socket)
    keys = {r: "Bearer " + new_token(store, r) for r in ("view", "respond", "control")}
    with server_kit.running(server_kit.guarded(app, store)) as server:

        def post(body, role="control", key=None, run=run_id):
            told = {"Authorization": keys[role], "Idempotency-Key": key or uuid.uuid4().hex}
            return server.ask("POST", f"/api/runs/{run}/commands", body, **told)

        yield SimpleNamespace(
            post=post, desk=desk, run=run_id, socket=socket, keys=keys, server=server, store=store
        )
    desk.close()


def until(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_command_as_the_page_sees_it(lab):
    body = {"kind": "scale_lr", "args": {"factor": 0.1}, "reason": "loss spikes"}
    answer = lab.post({**body, "incident_id": "i1"}, "respond", key="click")
    assert answer.status == 201
    made = answer.json
    assert made["state"] == "queued"
    assert made["args"] == {"factor": 0.1}
    assert (made["reason"], made["incident_id"], made["role"]) == ("loss spikes", "i1", "respond")
    assert made["expires_at"] - made["created_at"] == pytest.approx(60)
    again = lab.post(body, "respond", key="click")
    assert (again.status, again.json["id"]) == (200, made["id"])
    other = lab.post({"kind": "checkpoint"}, "respond", key="click")
    assert (other.status, other.code) == (409, "conflict")
    until(lambda: lab.socket.frames)
    lab.desk.accepted(lab.run, made["id"], 7)
    until(lambda: len(lab.socket.frames) == 2)
    with lab.store.write() as uow:
        word = CommandResult(
            id=made["id"], state="applied", time=1.0, step=4200,
            before={"policy": 3e-4}, after={"policy": float("nan")}, factor=0.1,
        )  # fmt: skip
        lab.desk.result(uow, lab.run, word)
    told = {"Authorization": lab.keys["view"]}
    listed = lab.server.ask("GET", f"/api/runs/{lab.run}/commands", **told)
    (shown,) = listed.json["commands"]
    assert json.loads(listed.body, parse_constant=pytest.fail)
    assert (shown["state"], shown["applied_step"], shown["factor"]) == ("applied", 4200, "0.1")
    assert (shown["before"], shown["after"]) == ({"policy": "0.0003"}, {"policy": "NaN"})
    path = [step["state"] for step in shown["transitions"]]
    assert path == ["queued", "delivered", "armed", "applied"]
    assert set(shown) == {
        "id", "run_id", "kind", "args", "state", "actor", "role", "reason", "incident_id",
        "created_at", "expires_at", "applied_step", "before", "after", "factor", "message",
        "transitions",
    }  # fmt: skip


def test_numbers_are_strict_over_http(lab):
    told = [("Host", lab.server.host), ("Authorization", lab.keys["control"])]
    told += [("Content-Type", "application/json"), ("X-Nanwatch", "1"), ("Idempotency-Key", "k")]
    path = f"/api/runs/{lab.run}/commands"
    for raw in ("true", '"1"', "NaN", "Infinity", "-Infinity", "0", "-1e-3", "null", "1e999", "[]"):
        for kind, name in (("set_lr", "lr"), ("scale_lr", "factor")):
            body = f'{{"kind": "{kind}", "args": {{"{name}": {raw}}}}}'.encode()
            answer = lab.server.raw("POST", path, told, body)
            assert answer.status == 422, answer.body
            assert f"{kind} expects a" in answer.json["error"]["message"], raw
            assert "got" in answer.json["error"]["message"], raw
    assert lab.store.commands(lab.run) == []


def test_what_is_refused_and_how(lab):
    def said(answer) -> tuple[int, str]:
        return answer.status, answer.code

    assert said(lab.post({"kind": "checkpoint"}, "view")) == (403, "forbidden")
    assert said(lab.post({"kind": "stop"}, "respond")) == (403, "forbidden")
    assert said(lab.post({"kind": "set_lr", "args": {"lr": 1e-3}}, "respond")) == (403, "forbidden")
    assert said(lab.post({"kind": "set_lr", "args": {"lr": 1.0}})) == (422, "invalid")
    assert said(lab.post({"kind": "reboot"})) == (422, "invalid")
    assert said(lab.post({"kind": "checkpoint"}, run="0" * 32)) == (404, "not_found")
    assert lab.post({"kind": "checkpoint", "extra": 1}).status == 422
    assert lab.post({"kind": 1}).status == 422
    assert lab.post({"kind": "checkpoint", "args": {"a": [[[]]]}}).status == 422
    told = {"Authorization": lab.keys["control"]}
    no_key = lab.server.ask("POST", f"/api/runs/{lab.run}/commands", {"kind": "stop"}, **told)
    assert no_key.status == 422
    assert "Idempotency-Key" in no_key.json["error"]["message"]
    lab.desk.run_gone(lab.run, lab.socket)
    gone = lab.post({"kind": "checkpoint"})
    assert said(gone) == (409, "not_connected")
    assert "sac-ant is not connected" in gone.json["error"]["message"]
    assert lab.store.commands(lab.run) == []
    missing = lab.server.ask("GET", f"/api/runs/{'0' * 32}/commands", **told)
    assert said(missing) == (404, "not_found")


def test_cancel(lab):
    def cancel(command_id: str, role: str = "respond"):
        path = f"/api/commands/{command_id}/cancel"
        return lab.server.ask("POST", path, {}, Authorization=lab.keys[role])

    made = lab.post({"kind": "checkpoint"}).json
    assert cancel(made["id"], "view").status == 403
    assert cancel(made["id"]).json["state"] == "cancelled"
    assert cancel(made["id"]).status == 200
    assert cancel("nothing").status == 404
    armed = lab.post({"kind": "checkpoint"}).json
    until(lambda: any(getattr(f, "kind", "") and f.id == armed["id"] for f in lab.socket.frames))
    lab.desk.accepted(lab.run, armed["id"], 1)
    until(lambda: lab.store.command(armed["id"]).state == "armed")
    assert cancel(armed["id"]).status == 409


def test_a_double_click_on_every_button_at_once(lab):
    """Twenty posts with one key over twenty connections make one command."""
    import concurrent.futures as futures

    with futures.ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(lab.post, {"kind": "checkpoint"}, "respond", "k") for _ in range(20)]
        answers = [one.result() for one in asked]
    assert sorted(a.status for a in answers) == [200] * 19 + [201]
    assert len({a.json["id"] for a in answers}) == 1
    until(lambda: lab.socket.frames)
    assert len(lab.socket.frames) == 1
