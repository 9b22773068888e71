"""DDP: attempts and norms are those of one process; one rank alone is told nothing dangerous."""

from __future__ import annotations

import math

import pytest

from distributed.conftest import eventually
from distributed.test_sharded import agree, layers, reference


@pytest.mark.parametrize(
    "more",
    [("--accumulate",), ("--static-graph",), ("--find-unused",)],
    ids=["no_sync", "static graph", "unused parameters"],
)
def test_norms_and_attempts_are_those_of_one_process(server, launch, tmp_path, more):
    expected = reference(launch, tmp_path / "single.pt", "--clip", "0.05")["seen"]
    training = launch(server, "ddp", "--clip", "0.05", *more, ranks=2)
    training.ended()

    [run] = server.runs_of(training)
    totals = {one["step"]: math.hypot(*one["norms"].values()) for one in expected}
    for rank in (0, 1):
        agree(server.points(run["id"], "grad_norm", rank=rank), totals)
    first = {one["step"]: layers(one["norms"])["0"] for one in expected}
    agree(server.points(run["id"], "grad_norm_layer", "0"), first)
    losses = [dict(server.points(run["id"], "loss", rank=rank)) for rank in (0, 1)]
    assert losses[0].keys() == losses[1].keys() == totals.keys()
    assert all(losses[0][step] != losses[1][step] for step in totals)  # each of its own batch
    said = server.detail(run["id"])["coverage"]["what"]
    assert said["loss"] == "of each rank's own batch, no mean over ranks; rules see rank 0's"


@pytest.mark.parametrize(("kind", "saves"), [("ddp", True), ("fsdp", False)])
def test_no_command_splits_the_ranks(server, launch, kind, saves):
    training = launch(server, kind, "--steps", "400", "--pause", "0.05", ranks=2)
    run = eventually(lambda: server.runs_of(training), 60, "run")[0]["id"]
    path = f"/api/runs/{run}/commands"
    eventually(lambda: server.detail(run)["last_step"] >= 3, 60, "steps")

    assert server.detail(run)["controls"] == ["checkpoint"]
    for what in ("set_lr", "scale_lr", "stop"):
        args = {"set_lr": {"lr": 0.001}, "scale_lr": {"factor": 0.5}, "stop": {}}[what]
        with pytest.raises(RuntimeError, match=r"422.*2 ranks.*at the same step"):
            server.client.post(path, {"kind": what, "args": args})
    asked = server.client.post(path, {"kind": "checkpoint", "args": {}})["id"]

    def answer() -> dict | None:
        (found,) = [c for c in server.client.get(path)["commands"] if c["id"] == asked]
        return found if found["state"] in ("verified", "rejected", "failed") else None

    found = eventually(answer, 30, "answer")
    assert found["state"] == ("verified" if saves else "rejected"), found
    if not saves:
        assert "spread over the ranks" in found["message"]
    before = server.detail(run)["last_step"]
    eventually(lambda: server.detail(run)["last_step"] > before, 30, "further steps")
    assert training.running()
