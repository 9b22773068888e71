"""`arm_tracing` from the desk to the run and back; its arguments are in `test_command_rules`."""

from __future__ import annotations

import msgspec
import pytest

from nanwatch.contract.commands import ControlOffer
from nanwatch.contract.frames import Forensics
from nanwatch_server.control.policy import Refused


def report(bench, step, **more):
    """Forensics as ingest stores them."""
    found = Forensics(step=step, time=1.0, trigger="command", **more)
    with bench.store.write() as uow:
        uow.add_report(bench.run.id, "forensics", step, 1.0, msgspec.msgpack.encode(found))


def test_tracing_is_verified_by_what_it_found(kit):
    bench = kit.Bench(kit.new_store())
    bench.run = bench.new_run(ControlOffer(tracing=True))
    session = bench.connect()
    with pytest.raises(Refused, match="does not allow stop"):
        bench.send("stop")
    command = bench.send("arm_tracing", role="respond", steps=20)
    [sent] = session.sent("command")
    assert sent["kind"] == "arm_tracing" and sent["args"] == {"steps": 20}
    bench.exchange()
    bench.run.close_attempt()
    bench.flush()
    assert bench.state(command) == "applied"
    step = bench.run.step
    report(bench, step - 1)  # of before
    report(bench, step, tracing_steps=20)  # has begun
    with bench.store.write() as uow:
        uow.add_report(bench.run.id, "nonfinite", step + 1, 1.0, b"\x80")
    bench.clock.now += 10.0
    bench.pump()
    assert bench.state(command) == "applied"
    report(bench, step + 20)
    bench.clock.now += 10.0
    bench.pump()
    assert bench.state(command) == "verified"
    rows = bench.store.audit_rows(run_id=bench.run.id)
    done = [row["action"] for row in rows if row["target"] == command.id]
    assert done[0] == "command.verified" and done[-1] == "command.queued"
