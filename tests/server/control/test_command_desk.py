"""The life of commands in the real store: delivered, armed, applied, verified, or any other end."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from nanwatch.contract.frames import CommandResult
from nanwatch_server.control.audit import verify_chain
from nanwatch_server.control.policy import Refused
from nanwatch_server.domain.models import Checkpoint, Principal

RESPONDER = Principal(actor="browser:1", role="respond", via="session")


def states(bench, command) -> list[str]:
    return [step.state for step in bench.store.command(command.id).transitions]


def samples(bench, first: int, n: int, lr: float, scheduled: float, scope: str = "") -> None:
    steps = np.arange(first, first + n)
    scalars = {"lr": np.full(n, lr), "lr_scheduled": np.full(n, scheduled)}
    bench.desk.observe(bench.run.id, scope, steps, scalars)
    bench.pump()


def test_from_click_to_verified(bench):
    session = bench.connect()
    command = bench.send("scale_lr", role="respond", factor=0.1)
    assert command.state == "queued"
    assert bench.state(command) == "delivered"
    (frame,) = session.sent("command")
    assert frame["kind"] == "scale_lr"
    assert frame["args"] == {"factor": 0.1}
    assert frame["actor"] == "browser:respond"
    assert frame["expires_in"] == 60.0
    bench.exchange()
    assert bench.state(command) == "armed"
    bench.run.close_attempt()
    bench.flush()
    applied = bench.store.command(command.id)
    assert (applied.state, applied.applied_step) == ("applied", 1)
    assert applied.before == {"": 3e-4}
    assert applied.after == {"": pytest.approx(3e-5)}
    samples(bench, 1, 10, 3e-5, 3e-4)  # step 1 itself does not count
    assert bench.state(command) == "applied"
    samples(bench, 11, 1, 3e-5, 3e-4)
    assert states(bench, command) == ["queued", "delivered", "armed", "applied", "verified"]
    assert [c.state for c in bench.published] == states(bench, command)
    rows = bench.store.audit_rows()[::-1]
    assert [r["action"] for r in rows] == [f"command.{state}" for state in states(bench, command)]
    assert [(r["actor"], r["role"], r["via"]) for r in rows][:2] == [
        ("browser:respond", "respond", "session"),
        ("server", "", "system"),
    ]
    assert rows[3]["detail"]["before"] == {"": "0.0003"}
    assert (rows[3]["actor"], rows[3]["detail"]["step"]) == ("run", 1)
    assert verify_chain(rows) is None


def test_verification_follows_the_schedule_and_counts_in_a_row(bench):
    bench.connect()
    command = bench.send(factor=0.5)
    bench.exchange()
    bench.run.close_attempt()
    bench.flush()
    steps = np.arange(2, 40)
    scheduled = 3e-4 * 0.99 ** np.arange(38)
    lr = 0.5 * scheduled
    lr[[5, 14, 24]] = scheduled[5], np.nan, 0.5 * scheduled[24] * (1 + 2e-6)
    lr[30:] *= 1 + 5e-7
    for i in range(34):  # after the last bad sample (24): 9 good ones
        one = {"lr": lr[i : i + 1], "lr_scheduled": scheduled[i : i + 1]}
        bench.desk.observe(bench.run.id, "", steps[i : i + 1], one)
        bench.desk.observe(bench.run.id, "q1", steps[i : i + 1], one)
    bench.pump()
    assert bench.state(command) == "applied"
    rest = {"lr": lr[34:35], "lr_scheduled": scheduled[34:35]}
    bench.desk.observe(bench.run.id, "", steps[34:35], rest)
    bench.pump()
    assert bench.state(command) == "verified"


def test_every_scope_must_show_it_by_its_own_factor(bench):
    bench.connect()
    command = bench.send(factor=0.5)
    bench.exchange()
    bench.run.armed.clear()
    bench.run.results = [
        CommandResult(
            id=command.id,
            state="applied",
            time=0.0,
            step=3,
            before={"pi": 1e-3, "q": 1e-4, "q#1": 1e-5},
            after={"pi": 5e-4, "q": 5e-6, "q#1": 5e-7},
            factor=0.5,
            factors={"pi": 0.5, "q": 0.05},
        )
    ]
    bench.flush()
    samples(bench, 4, 30, 0.5, 1.0, "pi")
    samples(bench, 4, 30, 0.5, 1.0, "q")
    assert bench.state(command) == "applied"
    samples(bench, 34, 10, 0.05, 1.0, "q")
    assert bench.state(command) == "verified"


def test_a_second_rate_takes_the_place_of_one_that_is_not_armed(bench):
    session = bench.connect()
    first, second = bench.send(factor=0.5), bench.send("set_lr", lr=1e-4)
    assert states(bench, first) == ["queued", "delivered", "superseded"]
    assert [f["id"] for f in session.sent("revoke")] == [first.id]
    bench.exchange()
    assert bench.state(second) == "armed"
    with pytest.raises(Refused, match=r"set_lr of browser:control is on its way \(armed\)"):
        bench.send(factor=0.5)
    bench.rates = ({"policy": 3e-4}, {"policy": 3e-4})
    with pytest.raises(Refused, match="on its way"):
        bench.send(factor=0.5, scope="policy")
    checkpoint = bench.send("checkpoint")
    with pytest.raises(Refused, match="checkpoint of browser:control is on its way"):
        bench.send("checkpoint")
    bench.run.close_attempt()
    bench.flush()
    third = bench.send(factor=0.5)
    assert bench.state(checkpoint) == "delivered"
    assert bench.state(third) == "delivered"
    assert [c for c, _ in bench.run.applied] == [second.id]


def test_scopes_are_knobs_of_their_own(bench):
    bench.rates = ({"pi": 1e-3, "q": 1e-3}, {"pi": 1e-3, "q": 1e-3})
    bench.connect()
    pi, q = bench.send(factor=0.5, scope="pi"), bench.send(factor=0.5, scope="q")
    assert [bench.state(c) for c in (pi, q)] == ["delivered", "delivered"]
    bench.send(factor=0.9, scope="pi")
    assert [bench.state(c) for c in (pi, q)] == ["superseded", "delivered"]
    bench.send(factor=0.9)  # all optimizers
    assert bench.state(q) == "superseded"


def test_the_same_key_is_the_same_command(bench):
    session = bench.connect()
    first = bench.send("checkpoint", key="click-1")
    again, fresh = bench.desk.submit(RESPONDER, bench.run.id, "checkpoint", {}, key="click-1")
    assert (again.id, fresh) == (first.id, False)
    with pytest.raises(Refused, match="used for another command"):
        bench.send("stop", key="click-1")
    bench.disconnect()
    again, fresh = bench.desk.submit(RESPONDER, bench.run.id, "checkpoint", {}, key="click-1")
    assert (again.id, fresh) == (first.id, False)
    assert len(bench.store.commands(bench.run.id)) == len(session.sent("command")) == 1


def test_two_clicks_at_once_are_one_command(bench):
    bench.connect()
    made, gate = [], threading.Barrier(8)

    def click() -> None:
        gate.wait()
        made.append(bench.desk.submit(RESPONDER, bench.run.id, "checkpoint", {}, key="k"))

    threads = [threading.Thread(target=click) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({command.id for command, _ in made}) == 1
    assert [fresh for _, fresh in made].count(True) == 1


def test_an_expired_command_is_never_sent_and_never_armed(bench):
    session = bench.connect()
    late = bench.send(factor=0.5)
    bench.clock.now = 59.9
    bench.run.read(bench.desk)
    bench.clock.now = 60.0
    bench.pump()
    assert states(bench, late) == ["queued", "delivered", "expired"]
    assert session.sent("go") == []
    bench.exchange()
    bench.run.close_attempt()
    assert bench.run.applied == []
    # Queued while the connection broke, and the run comes back too late.
    bench.connect()
    queued = bench.desk.submit(RESPONDER, bench.run.id, "checkpoint", {}, key="k2")[0]
    bench.disconnect()
    bench.clock.now += 300.0
    assert bench.connect().sent("command") == []
    assert bench.state(queued) == "expired"


def test_the_run_rejects_or_fails_and_its_words_are_shown(bench):
    bench.connect()
    command = bench.send(factor=0.5)
    bench.run.read(bench.desk, reject=True)
    bench.flush()
    rejected = bench.store.command(command.id)
    assert (rejected.state, rejected.message) == ("rejected", "not in the bounds of the script")
    assert rejected.factor is None
    assert rejected.applied_step is None


def test_a_result_may_be_faster_than_our_own_note(bench):
    bench.connect()
    command, _ = bench.desk.submit(RESPONDER, bench.run.id, "checkpoint", {}, key="k")
    bench.run.results = [CommandResult(id=command.id, state="rejected", time=0.0, message="no")]
    bench.flush()
    assert states(bench, command) == ["queued", "delivered", "rejected"]


def test_cancel_before_it_is_armed(bench):
    session = bench.connect()
    command = bench.send(factor=0.5)
    assert bench.desk.cancel(RESPONDER, command.id).state == "cancelled"
    assert bench.desk.cancel(RESPONDER, command.id).state == "cancelled"
    bench.exchange()
    bench.run.close_attempt()
    assert bench.run.applied == []
    assert session.sent("go") == []
    armed = bench.send(factor=0.5)
    bench.exchange()
    with pytest.raises(Refused, match="only a queued or delivered command") as refused:
        bench.desk.cancel(RESPONDER, armed.id)
    assert refused.value.code == "conflict"
    with pytest.raises(Refused, match="no command 'x'"):
        bench.desk.cancel(RESPONDER, "x")


def test_lost_contact_is_unknown_until_the_run_says_what_became_of_it(bench):
    bench.connect()
    command = bench.send(factor=0.5)
    bench.exchange()
    bench.disconnect()
    assert bench.state(command) == "unknown"
    bench.run.close_attempt()
    bench.connect()
    assert bench.run.session.sent("command") == []
    bench.flush(again=True)
    bench.flush(again=True)
    assert states(bench, command)[-2:] == ["unknown", "applied"]
    # An armed command that the run expired is a failure that says why.
    second = bench.send(factor=0.5)
    bench.exchange()
    bench.disconnect()
    bench.clock.now += 61.0
    bench.run.close_attempt()
    bench.flush()
    assert (bench.state(second), bench.store.command(second.id).message) == (
        "failed",
        "expired: too late",
    )


def test_an_armed_command_without_an_answer_becomes_unknown(bench):
    bench.connect()
    command = bench.send(factor=0.5)
    bench.exchange()
    bench.clock.now = 89.0
    bench.pump()
    assert bench.state(command) == "armed"
    bench.clock.now = 90.0
    bench.pump()
    assert bench.state(command) == "unknown"
    assert bench.send(factor=0.5).state == "queued"


def test_reconnect_sends_again_what_is_in_time_and_only_that(bench):
    bench.connect()
    command = bench.send(factor=0.5)
    bench.run.session.inbox.clear()  # lost on the way
    bench.disconnect()
    bench.clock.now = 20.0
    session = bench.connect()
    (frame,) = session.sent("command")
    assert frame["expires_in"] == 40.0
    bench.exchange()
    bench.run.close_attempt()
    bench.flush()
    assert states(bench, command) == ["queued", "delivered", "armed", "applied"]


def test_a_connection_hears_of_a_command_once(bench, kit):
    """A command sent while the desk still takes up the connection; a second nonce would hurt."""
    session = bench.run.session = kit.Session(bench.run.id, bench.clock)
    bench.desk.run_connected(bench.run.id, session)
    command = bench.send("checkpoint")
    bench.desk.run_connected(bench.run.id, session)
    bench.pump()
    assert [frame["id"] for frame in session.sent("command")] == [command.id]


def test_an_older_connection_does_not_end_the_newer_one(bench, kit):
    old = bench.connect()
    new = bench.connect()
    bench.desk.run_gone(bench.run.id, old)
    bench.pump()
    assert bench.send("checkpoint").state == "queued"
    assert len(new.sent("command")) == 1
    assert old.sent("command") == []


def test_a_restarted_server_carries_on(bench):
    bench.connect()
    delivered = bench.send("checkpoint")
    armed = bench.send(factor=0.5)
    bench.run.session.inbox = [i for i in bench.run.session.inbox if i[1]["id"] == armed.id]
    bench.exchange()
    assert [bench.state(c) for c in (delivered, armed)] == ["delivered", "armed"]
    bench.desk = bench.new_desk()
    bench.desk.recover()
    bench.pump()
    assert [bench.state(c) for c in (delivered, armed)] == ["delivered", "unknown"]
    bench.clock.now = 100.0
    assert [f["id"] for f in bench.connect().sent("command")] == [delivered.id]
    bench.run.close_attempt()
    bench.flush()
    bench.desk = bench.new_desk()
    bench.desk.recover()
    bench.clock.now = 301.0
    bench.pump()
    assert bench.state(delivered) == "expired"


def test_checkpoint_and_stop_are_verified_by_what_they_leave(bench):
    bench.connect()
    checkpoint = bench.send("checkpoint")
    bench.exchange()
    bench.run.close_attempt()
    bench.flush()
    assert bench.state(checkpoint) == "applied"
    file = {"path": "/runs/a.pt", "bytes": 7, "sha256": "0" * 64}
    with bench.store.write() as uow:
        uow.add_checkpoint(Checkpoint(run_id=bench.run.id, step=1, at=0.0, **file))
    bench.clock.now += 1
    bench.pump()
    assert bench.state(checkpoint) == "applied"
    with bench.store.write() as uow:
        mine = Checkpoint(run_id=bench.run.id, step=1, at=0.0, command_id=checkpoint.id, **file)
        uow.add_checkpoint(mine)
    bench.clock.now += 5
    bench.pump()
    assert bench.state(checkpoint) == "verified"
    stop = bench.send("stop")
    bench.exchange()
    bench.run.close_attempt()
    bench.flush()
    with bench.store.write() as uow:
        uow.end_run(bench.run.id, at=1.0, reason="stopped by browser:control", exit_code=0)
    bench.clock.now += 5
    bench.pump()
    assert bench.state(stop) == "verified"


def test_a_lying_run_changes_nothing_but_the_audit(bench):
    bench.connect()
    command = bench.send(factor=0.5)
    bench.run.results = [CommandResult(id=command.id, state="applied", time=0.0, step=1)]
    bench.flush()
    assert bench.state(command) == "delivered"
    assert bench.store.audit_rows()[0]["action"] == "command.contradiction"
    other = bench.new_run()
    with bench.store.write() as uow:
        word = CommandResult(id=command.id, state="rejected", time=0.0)
        assert bench.desk.result(uow, other.id, word) is None
        assert (
            bench.desk.result(uow, other.id, CommandResult(id="?", state="failed", time=0)) is None
        )
    bench.desk.accepted(other.id, command.id, 1)
    bench.pump()
    assert bench.state(command) == "delivered"


def test_the_real_thread_delivers_and_expires(bench, kit):
    """The same with the worker's own thread and real time."""
    bench.clock.monotonic = time.monotonic  # type: ignore[method-assign]
    desk = bench.desk = bench.new_desk()
    desk.start()
    try:
        session = bench.run.session = kit.Session(bench.run.id, bench.clock)
        desk.run_connected(bench.run.id, session)
        command, _ = desk.submit(RESPONDER, bench.run.id, "checkpoint", {}, key="k")
        deadline = time.monotonic() + 5
        while bench.state(command) != "armed" and time.monotonic() < deadline:
            bench.run.read(desk)
            time.sleep(0.005)
        assert bench.state(command) == "armed"
    finally:
        desk.close()
    assert not any(t.name == "nanwatch-commands" for t in threading.enumerate())
