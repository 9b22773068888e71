"""Any order of clicks, delays, lost connections, restarts and resends: what must always hold."""

from __future__ import annotations

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from nanwatch.contract.commands import TERMINAL
from nanwatch_server.control.audit import verify_chain
from nanwatch_server.control.policy import Refused
from nanwatch_server.control.states import NEXT
from nanwatch_server.domain.models import Principal, role_covers
from nanwatch_server.store.sql import SqlStore

ROLES = ("control", "respond", "admin", "view", "ingest", "control", "control")
ASKS: list[tuple[str, dict[str, Any]]] = [
    ("scale_lr", {"factor": 0.5}),
    ("scale_lr", {"factor": 2.0}),
    ("set_lr", {"lr": 1e-4}),
    ("set_lr", {"lr": 1e-3}),
    ("checkpoint", {}),
    ("stop", {"checkpoint": True}),
]
ENDS = ("applied", "rejected", "expired", "too late", "lost", "replaced", "cancelled")
NEEDS_CONTROL = {("stop", None), ("scale_lr", 2.0), ("set_lr", 1e-3)}


class Commands(RuleBasedStateMachine):
    """One run, one desk, many people."""

    reached: set[str] = set()
    """States seen in any history: a machine that never applies proves nothing."""

    bench_class: Any
    template: Path

    def __init__(self) -> None:
        super().__init__()
        fast = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of commits
        self.place = Path(tempfile.mkdtemp(dir=fast))
        shutil.copytree(self.template, self.place / "data")
        self.store = SqlStore(self.place / "data")
        self.bench = self.bench_class(self.store)
        self.run, self.clock = self.bench.run, self.bench.clock
        self.known: dict[str, Any] = {}
        self.keys = 0
        self.connect()

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.place)

    @property
    def desk(self) -> Any:
        return self.bench.desk

    # --- what may happen ----------------------------------------------------------------------

    @rule(ask=st.sampled_from(ASKS), role=st.sampled_from(ROLES), again=st.sampled_from("nnny"))
    def click(self, ask: tuple[str, dict[str, Any]], role: Any, again: str) -> None:
        self.keys += again == "n"
        who = Principal(actor=role, role=role, via="session")
        try:
            command, _ = self.desk.submit(who, self.run.id, *ask, key=f"key{self.keys}")
        except Refused as refused:
            assert refused.code != "not_found"
            return
        assert self.run.session is not None or command.id in self.known

    @precondition(lambda self: self.run.session is not None)
    @rule(
        ask=st.sampled_from(ASKS),
        end=st.sampled_from(ENDS),
    )
    def a_whole_life(self, ask: tuple[str, dict[str, Any]], end: str) -> None:
        """The usual orders in one go, so that every history comes to speak of their ends."""
        self.bench.exchange()
        self.click(ask, "control", "n")
        if end == "replaced":
            self.click(("scale_lr", {"factor": 0.5}), "control", "n")
            self.click(("set_lr", {"lr": 1e-4}), "respond", "n")
        if end == "cancelled":
            for command in self.store.commands(self.run.id)[:1]:
                self.cancel_one(command.id)
        if end == "too late":
            self.clock.now += 1000.0
        self.all_is_said(end == "rejected")
        if end == "expired":
            self.clock.now += 1000.0
        if end == "lost":
            self.connection_breaks(False)
            self.desk_works()
            self.clock.now += 1000.0
        self.attempt_closes()
        self.results_arrive("n")
        self.desk_works()

    @initialize(ask=st.sampled_from(ASKS), end=st.sampled_from(ENDS))
    def first_life(self, ask: tuple[str, dict[str, Any]], end: str) -> None:
        self.a_whole_life(ask, end)

    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick: Any) -> None:
        if self.known:
            self.cancel_one(pick.choice(sorted(self.known)))

    def cancel_one(self, command_id: str) -> None:
        try:
            self.desk.cancel(Principal(actor="r", role="respond", via="session"), command_id)
        except Refused as refused:
            assert refused.code == "conflict"

    def connect(self) -> None:
        self.run.session = session = self.bench.session_class(self.run.id, self.clock)
        self.desk.run_connected(self.run.id, session)

    @precondition(lambda self: self.run.session is None)
    @rule()
    def comes_back(self) -> None:
        self.connect()

    @precondition(lambda self: self.run.session is not None)
    @rule(stays_away=st.booleans())
    def connection_breaks(self, stays_away: bool) -> None:
        self.desk.run_gone(self.run.id, self.run.session)
        self.run.session = None
        if not stays_away:
            self.connect()

    @precondition(lambda self: self.run.session is not None)
    @rule(reject=st.sampled_from([False, False, False, True]))
    def client_reads(self, reject: bool) -> None:
        self.run.read(self.desk, reject=reject)

    @precondition(lambda self: self.run.session is not None)
    @rule(reject=st.sampled_from([False, False, True]))
    def all_is_said(self, reject: bool) -> None:
        if reject:
            self.bench.pump()
            self.run.read(self.desk, reject=True)
            self.results_arrive("n")
        self.bench.exchange()

    @rule()
    def attempt_closes(self) -> None:
        self.run.close_attempt()

    @precondition(lambda self: self.run.session is not None)
    @rule(again=st.sampled_from("nny"))
    def results_arrive(self, again: str) -> None:
        results, self.run.results = self.run.results, self.run.results if again == "y" else []
        with self.store.write() as uow:
            for result in results:
                self.desk.result(uow, self.run.id, result)

    @rule(seconds=st.sampled_from([0.1, 0.1, 4.0, 6.0, 30.0, 61.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def desk_works(self) -> None:
        self.bench.pump()

    @rule()
    def server_restarts(self) -> None:
        self.bench.desk = self.bench.new_desk()
        self.desk.recover()
        self.connect()

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def applied_once_in_time_and_allowed(self) -> None:
        ids = [command_id for command_id, _ in self.run.applied]
        assert len(ids) == len(set(ids))
        for command_id, at in self.run.applied:
            command = self.store.command(command_id)
            assert command is not None
            assert at < command.expires_at - self.clock.wall() + self.clock.now + 1e-6
            value = command.args.get("factor", command.args.get("lr"))
            needed = "control" if (command.kind, value) in NEEDS_CONTROL else "respond"
            assert role_covers(command.role, needed), command
            assert "armed" in [step.state for step in command.transitions]

    @invariant()
    def history_only_grows_along_the_table_and_is_audited_once(self) -> None:
        rows = self.store.audit_rows(limit=100_000)[::-1]
        assert verify_chain(rows) is None
        for command in self.store.commands(self.run.id):
            path = [step.state for step in command.transitions]
            assert path[0] == "queued"
            assert all(b in NEXT[a] for a, b in pairwise(path)), path
            assert path[-1] == command.state
            before = self.known.get(command.id)
            if before is not None:
                assert command.transitions[: len(before.transitions)] == before.transitions
                assert before.state not in TERMINAL or command == before
            audited = [r["action"] for r in rows if r["target"] == command.id]
            assert audited == [f"command.{state}" for state in path]
            self.known[command.id] = command
            self.reached.update(path)

    @invariant()
    def one_in_flight_for_a_knob(self) -> None:
        flying = [c for c in self.known.values() if c.state in ("queued", "delivered", "armed")]
        knobs = ["lr" if c.kind.endswith("_lr") else c.kind for c in flying]
        assert len(knobs) == len(set(knobs))


@pytest.mark.usefixtures("kit")
def test_commands_under_any_order_of_events(kit, template):
    """A bounded number of histories, the same each time; together they reach every state."""
    Commands.template = template
    Commands.bench_class = type("B", (kit.Bench,), {"session_class": kit.Session})
    run_machine(
        Commands,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert set(NEXT) - Commands.reached <= {"verified"}
