"""A command through the whole server: HTTP in, ingest socket out and back, the data as proof."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from nanwatch.contract import frames as f
from nanwatch.contract.commands import ControlOffer
from nanwatch.contract.limits import INGEST_PATH, PROTOCOL
from nanwatch_server.app import Server
from nanwatch_server.auth.tokens import new_token
from nanwatch_server.settings import Settings

OFFER = ControlOffer(lr=(1e-6, 1e-2), checkpoint=True, stop=True)
EPOCH = 77


class Trainer:
    """A client of wire v1 that knows just enough for commands."""

    def __init__(
        self, url: str, key: str, run_id: str, events: int = -1, scalars: int = -1
    ) -> None:
        self.run_id, self.seq = run_id, {"events": events, "scalars": scalars}
        told = {"Authorization": key}
        opened = connect(url, subprotocols=[PROTOCOL], additional_headers=told, proxy=None)
        self.socket: ClientConnection = opened.__enter__()
        self.say(
            f.Hello(
                proto=[1], sdk="test", rank=0, world=1, epoch=EPOCH, wall=time.time(),
                run=f.RunInfo(id=run_id, project="p", name="sac-ant", started_at=time.time()),
                events=f.Span(0, -1), scalars=f.Span(0, -1), control=OFFER,
            )
        )  # fmt: skip
        welcome = self.hear("welcome")
        self.seq = {"events": welcome.events, "scalars": welcome.scalars}
        decls = [f.SeriesDecl(1, "lr", "policy"), f.SeriesDecl(2, "lr_scheduled", "policy")]
        self.say(f.Declare(series=decls))

    def say(self, frame: Any) -> None:
        self.socket.send(f.encode(frame))

    def hear(self, kind: str) -> Any:
        """The next frame of this kind; acks and the like in between are read past."""
        deadline = time.monotonic() + 10
        while True:
            frame = f.decode_server(bytes(self.socket.recv(deadline - time.monotonic())))  # type: ignore[arg-type]
            if frame.__struct_config__.tag == kind:
                return frame

    def batch(self, lane: Any, record: Any) -> None:
        self.seq[lane] += 1
        self.say(f.Batch(lane=lane, first=self.seq[lane], records=[record]))

    def rates(self, first: int, n: int, lr: float, scheduled: float) -> None:
        steps = np.arange(first, first + n, dtype="<i8")
        values = np.array([[lr] * n, [scheduled] * n], dtype="<f8")
        times = np.full(n, time.time())
        table = f.Table(
            ids=[1, 2], steps=steps.tobytes(), times=times.tobytes(), values=values.tobytes()
        )
        self.batch("scalars", table)

    def result(self, command_id: str, state: Any, **more: Any) -> None:
        self.batch("events", f.CommandResult(id=command_id, state=state, time=0.0, **more))


@pytest.fixture
def lab(tmp_path, server_kit) -> Iterator[SimpleNamespace]:
    whole = Server(Settings(data_dir=tmp_path / "data"))
    keys = {r: "Bearer " + new_token(whole.store, r) for r in ("ingest", "view", "control")}
    with server_kit.running(whole.app, "on") as server:
        url = f"ws://{server.host}{INGEST_PATH}"

        def post(run: str, kind: str, **args: Any) -> Any:
            told = {"Authorization": keys["control"], "Idempotency-Key": uuid.uuid4().hex}
            path = f"/api/runs/{run}/commands"
            return server.ask("POST", path, {"kind": kind, "args": args}, **told)

        def path_of(run: str, command_id: str) -> list[str]:
            told = {"Authorization": keys["view"]}
            listed = server.ask("GET", f"/api/runs/{run}/commands", **told).json["commands"]
            mine = next(one for one in listed if one["id"] == command_id)
            return [step["state"] for step in mine["transitions"]]

        def reached(run: str, command_id: str, state: str) -> list[str]:
            deadline = time.monotonic() + 10
            while (path := path_of(run, command_id))[-1] != state:
                assert time.monotonic() < deadline, path
                time.sleep(0.02)
            return path

        yield SimpleNamespace(
            trainer=lambda run: Trainer(url, keys["ingest"], run),
            post=post, path_of=path_of, reached=reached, server=server,
        )  # fmt: skip


def test_click_to_verified_over_the_wire(lab):
    run = uuid.uuid4().hex
    assert lab.post(run, "checkpoint").status == 404
    trainer = lab.trainer(run)
    trainer.rates(0, 20, 3e-4, 3e-4)
    trainer.hear("ack")
    out_of_bounds = lab.post(run, "set_lr", lr=0.5)
    assert out_of_bounds.status == 422
    assert "the run allows 1e-06 to 0.01" in out_of_bounds.json["error"]["message"]
    made = lab.post(run, "scale_lr", factor=0.1)
    assert made.status == 201, made.body
    command = trainer.hear("command")
    assert (command.kind, command.args) == ("scale_lr", {"factor": 0.1})
    assert 55 < command.expires_in <= 60
    trainer.say(f.Accepted(id=command.id, nonce=99))
    assert trainer.hear("go").nonce == 99
    trainer.result(
        command.id, "applied", step=20, before={"policy": 3e-4}, after={"policy": 3e-5},
        factor=0.1, factors={"policy": 0.1},
    )  # fmt: skip
    lab.reached(run, command.id, "applied")
    trainer.rates(21, 10, 3e-5, 3e-4)
    path = lab.reached(run, command.id, "verified")
    assert path == ["queued", "delivered", "armed", "applied", "verified"]

    saved = lab.post(run, "checkpoint").json["id"]
    trainer.say(f.Accepted(id=trainer.hear("command").id, nonce=1))
    trainer.hear("go")
    file = {"path": "/r/a.pt", "bytes": 5, "sha256": "0" * 64}
    trainer.batch("events", f.CheckpointSaved(step=31, time=0.0, command_id=saved, **file))
    trainer.result(saved, "applied", step=31)
    lab.reached(run, saved, "verified")

    stop = lab.post(run, "stop").json["id"]
    trainer.say(f.Accepted(id=trainer.hear("command").id, nonce=2))
    trainer.hear("go")
    trainer.result(stop, "applied", step=32)
    last = trainer.seq
    trainer.say(f.Bye(**last, reason="stopped by token", exit_code=0))
    lab.reached(run, stop, "verified")
    trainer.socket.close()


def test_cut_off_while_armed_and_told_afterwards(lab):
    run = uuid.uuid4().hex
    trainer = lab.trainer(run)
    lab_post = lab.post(run, "scale_lr", factor=0.5)
    while lab_post.status == 409:  # the desk hears of the connection a moment after the hello
        lab_post = lab.post(run, "scale_lr", factor=0.5)
    command = trainer.hear("command")
    trainer.say(f.Accepted(id=command.id, nonce=1))
    trainer.hear("go")
    trainer.socket.close()
    lab.reached(run, command.id, "unknown")
    gone = lab.post(run, "checkpoint")
    assert (gone.status, gone.code) == (409, "not_connected")
    trainer = lab.trainer(run)
    trainer.result(command.id, "applied", step=3, after={"policy": 1.0}, factor=0.5)
    trainer.hear("ack")
    assert lab.reached(run, command.id, "applied")[-2:] == ["unknown", "applied"]
    # The same record again is a repetition that the sequence number tells.
    trainer.seq["events"] -= 1
    trainer.result(command.id, "applied", step=3, after={"policy": 1.0}, factor=0.5)
    trainer.hear("ack")
    assert lab.path_of(run, command.id).count("applied") == 1
    trainer.socket.close()
