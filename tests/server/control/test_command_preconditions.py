"""What a command was meant for must still hold: the process, the learning rate, the time left."""

from __future__ import annotations

import numpy as np
import pytest

from nanwatch.contract.commands import ControlOffer
from nanwatch_server.control import policy
from nanwatch_server.control.policy import Refused
from nanwatch_server.control.verify import SAMPLES
from nanwatch_server.domain.models import Principal

CONTROL = Principal(actor="c", role="control", via="session")


def send(bench, kind="set_lr", key="k", **given):
    args = {"lr": 1e-4} if kind == "set_lr" else {"factor": 0.5}
    return bench.desk.submit(
        CONTROL, bench.run.id, kind, args | given.pop("args", {}), key=key, **given
    )


@pytest.mark.parametrize("seen", ["0.0003", "3e-4", "0.00030000000001", ""])
def test_the_rate_that_was_seen_is_the_one_in_force(bench, seen):
    bench.connect()
    assert send(bench, if_lr=seen)[1]


@pytest.mark.parametrize("kind", ["set_lr", "scale_lr"])
def test_another_rate_by_now_is_stale_and_the_audit_says_so(bench, kind):
    bench.connect()
    bench.rates = ({"": 3.001e-4}, {"": 3e-4})
    with pytest.raises(Refused, match=r"you saw, 0\.0003; it is 0\.0003001 by now") as refused:
        send(bench, kind, if_lr="0.0003")
    assert refused.value.code == "stale"
    assert bench.store.commands(bench.run.id) == []
    assert bench.store.audit_rows()[0]["detail"]["code"] == "stale"


def test_every_addressed_scope_must_have_it_and_groups_need_not(bench):
    bench.connect()
    bench.rates = ({"policy": 3e-4, "policy#1": 3e-5, "q1": 1e-3}, {})
    with pytest.raises(Refused, match=r"it is 0\.0003, 0\.001 by now"):
        send(bench, if_lr="0.0003")
    assert send(bench, if_lr="0.0003", args={"scope": "policy"})[1]
    bench.rates = ({}, {})
    with pytest.raises(Refused, match="it is not known by now"):
        send(bench, if_lr="0.0003", key="other")


def test_a_repeated_click_is_the_same_command_whatever_the_rate_is_now(bench):
    bench.connect()
    first, _ = send(bench, if_lr="0.0003")
    bench.rates = ({"": 1e-4}, {"": 3e-4})
    assert send(bench, if_lr="0.0003") == (first, False)


@pytest.mark.parametrize("seen", ["NaN", "inf", "-1", "0", "1e999", "three", "0x1p3", "1,5", " "])
def test_a_rate_that_is_none_is_invalid(seen):
    with pytest.raises(Refused, match="expected a learning rate as text") as refused:
        policy.check_seen(seen, {}, {"": 3e-4})
    assert refused.value.code == "invalid"


def test_a_tiny_raise_is_a_raise(bench):
    bench.connect()
    for kind, args in (("scale_lr", {"factor": 1.0000001}), ("set_lr", {"lr": 3.0000001e-4})):
        with pytest.raises(Refused, match="needs role control"):
            bench.send(kind, role="respond", **args)
    assert bench.send("set_lr", role="respond", lr=3e-4).state == "queued"


def test_a_command_does_not_outlive_the_process_it_was_for(bench, kit):
    bench.connect()
    command = bench.send(factor=0.5)
    bench.disconnect()
    reborn = kit.Session(bench.run.id, bench.clock)
    reborn.epoch = 2
    for restarted in (False, True):
        if restarted:
            bench.desk = bench.new_desk()
            bench.desk.recover()
        bench.desk.run_connected(bench.run.id, reborn)
        bench.pump()
    assert reborn.sent("command") == []
    last = bench.store.command(command.id).transitions[-1]
    assert (last.state, last.detail) == ("expired", "the process it was for has ended")


def test_a_reconnect_in_the_middle_of_a_click_does_not_expire_it(bench, kit):
    """The run comes back between COMMIT and the moment the desk tells others of the command."""
    session = bench.connect()
    bench.send(factor=0.5)
    again = kit.Session(bench.run.id, bench.clock)

    def comes_back(frame):
        if type(frame).__name__ == "Revoke":
            bench.desk.run_connected(bench.run.id, again)
            bench.pump()

    session.send = comes_back
    newer = bench.send(factor=0.25)
    assert bench.state(newer) == "delivered"
    assert [frame["id"] for frame in again.sent("command")] == [newer.id]


def test_points_that_come_twice_count_once(bench):
    bench.connect()
    command = bench.send(factor=0.5)
    bench.exchange()
    bench.run.close_attempt()
    bench.flush()
    half = SAMPLES // 2
    steps = np.arange(2, 2 + half)
    scalars = {"lr": np.full(half, 1.5e-4), "lr_scheduled": np.full(half, 3e-4)}
    for _ in range(3):
        bench.desk.observe(bench.run.id, "", steps, scalars)
    bench.pump()
    assert bench.state(command) == "applied"
    bench.desk.observe(bench.run.id, "", steps + half, scalars)
    bench.pump()
    assert bench.state(command) == "verified"


@pytest.mark.parametrize(
    ("kind", "args", "role", "code", "text"),
    [
        ("scale_lr", {"factor": 2.0}, "respond", "forbidden", "raising .* needs role control"),
        ("set_lr", {"lr": 1e-3}, "respond", "forbidden", "raising .* needs role control"),
        ("stop", {}, "respond", "forbidden", "stop needs role control"),
        ("checkpoint", {}, "view", "forbidden", "checkpoint needs role respond"),
        ("set_lr", {"lr": 1.0}, "control", "invalid", "the run allows 1e-06 to 0.01"),
        ("set_lr", {"lr": 1e-4, "scope": "q9"}, "control", "invalid", "no optimizer is named 'q9'"),
    ],
)
def test_refusals_leave_no_command_but_a_row_in_the_audit(bench, kind, args, role, code, text):
    bench.connect()
    with pytest.raises(Refused, match=text) as refused:
        bench.send(kind, role=role, **args)
    assert refused.value.code == code
    assert bench.store.commands(bench.run.id) == []
    (row,) = bench.store.audit_rows()
    assert (row["action"], row["detail"]["code"]) == ("command.refused", code)


def test_runs_that_cannot_be_commanded(bench):
    with pytest.raises(Refused, match="run sac-ant is not connected") as refused:
        bench.send("checkpoint")
    assert refused.value.code == "not_connected"
    bench.run = bench.new_run(None)
    bench.connect()
    with pytest.raises(Refused, match="does not allow checkpoint: grant it in the script"):
        bench.send("checkpoint")
    bench.run = bench.new_run(ControlOffer(lr_factor=(1e-3, 1.0)))
    bench.connect()
    with pytest.raises(Refused, match="times its schedule"):
        bench.send("scale_lr", factor=2.0)
    bench.run.id = "0" * 32
    with pytest.raises(Refused, match="there is no run"):
        bench.send("checkpoint")


def test_a_slow_training_has_more_time(bench):
    bench.connect()
    bench.median = 100.0
    command = bench.send(factor=0.5)
    assert command.expires_at - command.created_at == 300.0
