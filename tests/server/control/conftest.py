"""A desk on a real store with a clock that tests turn, and a run that behaves as the SDK must."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from nanwatch.contract.commands import ControlOffer
from nanwatch.contract.frames import CommandResult, RunInfo
from nanwatch.contract.limits import GO_WINDOW_S
from nanwatch_server.control.queue import Desk
from nanwatch_server.domain.models import Principal
from nanwatch_server.store.sql import SqlStore

FULL = ControlOffer(lr=(1e-6, 1e-2), checkpoint=True, stop=True)
WALL = 1_700_000_000.0


class Clock:
    """Monotonic seconds; the wall clock is the same from another origin."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now


class Session:
    """One connection: what the server sends, with the time it arrived."""

    def __init__(self, run_id: str, clock: Clock) -> None:
        self.run_id, self.epoch, self._clock = run_id, 1, clock
        self.inbox: list[tuple[float, Any]] = []

    def send(self, frame: Any) -> None:
        self.inbox.append((self._clock.now, msgspec.msgpack.decode(msgspec.msgpack.encode(frame))))

    def sent(self, kind: str) -> list[dict[str, Any]]:
        return [frame for _, frame in self.inbox if frame["t"] == kind]


class TrainingRun:
    """The client's side of the command protocol, in its few rules."""

    def __init__(self, run_id: str, clock: Clock) -> None:
        self.id, self.clock, self.step = run_id, clock, 0
        self.session: Session | None = None
        self.lr, self.scheduled = 3e-4, 3e-4
        self.waiting: dict[str, tuple[dict[str, Any], int, float, float]] = {}
        self.armed: dict[str, tuple[dict[str, Any], float]] = {}
        self.results: list[CommandResult] = []
        self.applied: list[tuple[str, float]] = []
        self._seen: set[str] = set()

    def read(self, desk: Desk, *, reject: bool = False) -> None:
        """Handle everything that has arrived."""
        assert self.session is not None
        frames, self.session.inbox = self.session.inbox, []
        for arrived, frame in frames:
            match frame["t"]:
                case "command":
                    self._offered(desk, arrived, frame, reject)
                case "go":
                    self._go(frame)
                case "revoke":
                    self.waiting.pop(frame["id"], None)

    def _offered(self, desk: Desk, arrived: float, frame: dict[str, Any], reject: bool) -> None:
        if frame["id"] in self._seen and frame["id"] not in self.waiting:
            return
        self._seen.add(frame["id"])
        if reject:
            self.waiting.pop(frame["id"], None)
            self._say(frame["id"], "rejected", "not in the bounds of the script")
            return
        nonce = len(self._seen) * 7
        self.waiting[frame["id"]] = (frame, nonce, self.clock.now, arrived + frame["expires_in"])
        desk.accepted(self.id, frame["id"], nonce)

    def _go(self, frame: dict[str, Any]) -> None:
        held = self.waiting.pop(frame["id"], None)
        if held is None or held[1] != frame["nonce"] or self.clock.now - held[2] > GO_WINDOW_S:
            return
        self.armed[frame["id"]] = (held[0], held[3])

    def close_attempt(self) -> None:
        """Apply what is armed, at the close of an attempt."""
        self.step += 1
        armed, self.armed = self.armed, {}
        for command_id, (frame, deadline) in armed.items():
            if self.clock.now >= deadline:
                self._say(command_id, "expired", "too late")
                continue
            self.applied.append((command_id, self.clock.now))
            before = self.lr
            args = frame["args"]
            self.lr = args.get("lr", self.lr) * args.get("factor", 1.0)
            self._say(command_id, "applied", "", before=before)

    def _say(self, command_id: str, state: Any, message: str, before: float | None = None) -> None:
        self.results.append(
            CommandResult(
                id=command_id,
                state=state,
                time=self.clock.wall(),
                step=self.step,
                message=message,
                before={} if before is None else {"": before},
                after={} if before is None else {"": self.lr},
                factor=self.lr / self.scheduled,
            )
        )


class Bench:
    """A store, a desk, a clock and a run."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.clock = store, Clock()
        self.published: list[Any] = []
        self.rates: tuple[dict[str, float], dict[str, float]] = ({"": 3e-4}, {"": 3e-4})
        self.median: float | None = None
        self.desk = self.new_desk()
        self.run = self.new_run()

    def new_desk(self) -> Desk:
        return Desk(
            self.store,
            on_change=self.published.append,
            latest_lr=lambda run_id: self.rates,
            median_step=lambda run_id: self.median,
            clock=self.clock.wall,
            monotonic=self.clock.monotonic,
        )

    def new_run(self, offer: ControlOffer | None = FULL) -> TrainingRun:
        run_id = uuid.uuid4().hex
        with self.store.write() as uow:
            info = RunInfo(id=run_id, project="p", name="sac-ant", started_at=WALL)
            uow.upsert_run(info, None if offer is None else msgspec.to_builtins(offer), WALL)
        return TrainingRun(run_id, self.clock)

    def connect(self, run: TrainingRun | None = None) -> Session:
        run = run or self.run
        run.session = Session(run.id, self.clock)
        self.desk.run_connected(run.id, run.session)
        self.pump()
        return run.session

    def disconnect(self, run: TrainingRun | None = None) -> None:
        run = run or self.run
        assert run.session is not None
        self.desk.run_gone(run.id, run.session)
        run.session = None
        self.pump()

    def send(self, kind: str = "scale_lr", role: str = "control", **args: Any) -> Any:
        who = Principal(actor=f"browser:{role}", role=role, via="session")  # type: ignore[arg-type]
        key = args.pop("key", uuid.uuid4().hex)
        command, _ = self.desk.submit(who, self.run.id, kind, args, key=key)
        self.pump()
        return command

    def pump(self) -> None:
        self.desk.worker.pump()

    def exchange(self) -> None:
        """Let both sides speak until all is said; nothing is applied."""
        for _ in range(4):
            if self.run.session is not None:
                self.run.read(self.desk)
            self.pump()

    def flush(self, *, again: bool = False) -> None:
        """Store the run's results as ingest does; `again` keeps them to be sent twice."""
        results, self.run.results = self.run.results, list(self.run.results) if again else []
        with self.store.write() as uow:
            for result in results:
                self.desk.result(uow, self.run.id, result)
        self.pump()

    def state(self, command: Any) -> str:
        now = self.store.command(command.id)
        assert now is not None
        return now.state


@pytest.fixture
def new_store(template: Path, tmp_path: Path) -> Iterator[Callable[[], SqlStore]]:
    """Makes empty stores; closes them at the end."""
    made: list[SqlStore] = []

    def make() -> SqlStore:
        path = tmp_path / f"data{len(made)}"
        shutil.copytree(template, path)
        made.append(SqlStore(path))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def bench(new_store: Callable[[], SqlStore]) -> Bench:
    return Bench(new_store())


@pytest.fixture
def kit(new_store: Callable[[], SqlStore]) -> SimpleNamespace:
    """For test modules, which cannot import this file."""
    return SimpleNamespace(Bench=Bench, Session=Session, new_store=new_store)
