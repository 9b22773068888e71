"""Which rank of which run this process is, and how all ranks of a training come by one run id.

No collective is ever issued: rank 0 puts the id into the key-value store that the processes share
anyway, the others read it there. Everything but `claim` and `group_now` runs on the background
thread; torch is used only where the script has imported it. Called by `run` and `link.worker`.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

AGREE_WITHIN_S = 60.0
"""So long ranks that train may take to agree on a run id; then each becomes a run of its own."""

AGREE_IDLE_S = 1800.0
"""So long they may take before they train: rank 0 may prepare the data, or torch be begun late.
As long as torch's own process groups wait for a rank."""

PLACE_WITHIN_S = 120.0
"""So long a process that looks like one of several may take to begin `torch.distributed`."""

ALONE_AFTER_ATTEMPTS = 3
"""…or so many attempts: a training that steps without it is one of its own."""

NO_STORE = "no store that the processes share was found"
ASK_S = 0.5
"""So long one look for an answer of the store may keep the background thread."""
REACH_TIMEOUT_S = 2.0
STORE_TIMEOUT_S = 10.0
"""A busy machine answers late, and a TCPStore that gives up fills the user's terminal."""
ACTIVE = "NANWATCH_ACTIVE"
"""Who began a run under which rank: children that inherit the rank are not that rank."""

_SIZES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_SIGNS = ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")
_LAUNCH = ("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")


@dataclass(frozen=True, slots=True)
class Identity:
    """Settled: what `hello` says."""

    run_id: str
    rank: int = 0
    world: int = 1
    """Processes of the run."""
    generation: int = 0
    """How often torchrun has restarted the group: values of different lives are never combined."""
    group: int = 1
    """Processes of the training. More than `world` if no common run could be agreed."""
    problem: str = ""
    facts: dict[str, str] = field(default_factory=dict)


def group_now() -> tuple[int, int] | None:
    """(rank, world size) of torch's default process group; None before it begins. Any thread."""
    dist = sys.modules.get("torch.distributed")
    try:
        if dist is None or not dist.is_available() or not dist.is_initialized():
            return None
        return dist.get_rank(), dist.get_world_size()
    except Exception:
        return None  # it is just being made or taken down


def from_launcher(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """(rank, world size) that torchrun gave to this process."""
    if "TORCHELASTIC_RUN_ID" not in environ:
        return None
    try:
        rank, world = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return None
    return (rank, world) if 0 <= rank < world else None


def may_become_one_of_several(environ: Mapping[str, str]) -> bool:
    """True if a process group may come: then the first words to the server wait for it.

    SLURM and MPI start sweeps of independent trainings in the same way, so their numbers alone
    make nobody a rank; neither do those of Kubernetes operators, which count machines.
    """
    if any(environ.get(name) for name in _SIGNS) or multiprocessing.parent_process() is not None:
        return True
    return any(_number(environ.get(name, "")) > 1 for name in _SIZES)


def claim(environ: Any = os.environ) -> bool:
    """Note that this process began a run; True if its rank is its own and not an inheritance."""
    pid, launch = str(os.getpid()), [environ.get(name, "") for name in _LAUNCH]
    holder, _, inherited = environ.get(ACTIVE, "").partition(":")
    own = holder in ("", pid) or inherited != ":".join(launch)
    environ[ACTIVE] = ":".join([pid, *launch])
    return own


def release(environ: Any = os.environ) -> None:
    """The run of this process has ended."""
    if environ.get(ACTIVE, "").partition(":")[0] == str(os.getpid()):
        del environ[ACTIVE]


def run_id_of(text: str, project: str) -> str:
    """A run id from NANWATCH_RUN_ID: as it is if it looks like one, else made from it."""
    if re.fullmatch(r"[0-9a-f]{32}", text):
        return text
    return hashlib.sha256(f"{project}\0{text}".encode()).hexdigest()[:32]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


_begun = 0
"""Runs begun in this process: all ranks begin the same ones in the same order."""


class Agreement:
    """Finds out once who this process is. `poll` never waits long; background thread only."""

    def __init__(
        self,
        own_id: str,
        project: str,
        attempts: Callable[[], int],
        *,
        environ: Mapping[str, str] = os.environ,
        own_rank: bool = True,
        within_s: float = AGREE_WITHIN_S,
        idle_s: float = AGREE_IDLE_S,
    ) -> None:
        global _begun
        _begun += 1
        self._key = f"nanwatch/run/{_begun}"
        self._own_id, self._attempts = own_id, attempts
        self._within_s, self._idle_s = within_s, idle_s
        self._environ = dict(environ)
        given = self._environ.get("NANWATCH_RUN_ID", "")
        self._given = run_id_of(given, project) if given else ""
        self._alone_id = self._given if self._given and own_rank else own_id
        self._launcher = from_launcher(self._environ) if own_rank else None
        self._hinted = may_become_one_of_several(self._environ)
        self._begun_at = time.monotonic()
        self._place: tuple[int, int] | None = None
        self._placed_at = 0.0
        self._store: Any = None
        self._trouble, self._said = NO_STORE, ""
        """Why there is no answer yet, and what the last look at the store said of it."""
        self._asking: threading.Thread | None = None
        self._answer = ""
        self.settled: Identity | None = None

    def poll(self, final: bool = False) -> Identity | None:
        """The answer, or None as long as it is open. `final`: the process is about to end."""
        if self.settled is None:
            if self._place is None:
                self._place = self._find_place(final)
                self._placed_at = time.monotonic()
            if self._place is not None:
                self.settled = self._agree(*self._place)
        return self.settled

    def give_up(self) -> Identity:
        """No answer in time: a run of its own, which says so."""
        rank, world = self._place or (0, 1)
        self.settled = self._alone(rank, world)
        return self.settled

    def _find_place(self, final: bool) -> tuple[int, int] | None:
        found = group_now() or self._launcher
        if found is not None:
            return found
        waited = time.monotonic() - self._begun_at
        tired = waited > PLACE_WITHIN_S or self._attempts() >= ALONE_AFTER_ATTEMPTS
        return (0, 1) if final or tired or not self._hinted else None

    def _agree(self, rank: int, world: int) -> Identity | None:
        if world == 1:
            return Identity(self._alone_id)
        if self._given:
            return self._one_of(self._given, rank, world)
        agreed = self._asked(rank)
        if agreed:
            self._store = None
            return self._one_of(agreed, rank, world)
        waited = time.monotonic() - self._placed_at
        trains = self._attempts() >= ALONE_AFTER_ATTEMPTS
        if waited > (self._within_s if trains else self._idle_s):
            return self._alone(rank, world)
        return None

    def _one_of(self, run_id: str, rank: int, world: int) -> Identity:
        restarts = _number(self._environ.get("TORCHELASTIC_RESTART_COUNT", ""))
        facts = {"world_size": str(world)}
        return Identity(run_id, rank, world, restarts, world, "", facts)

    def _alone(self, rank: int, world: int) -> Identity:
        if world == 1:
            return Identity(self._alone_id)
        problem = (
            f"rank {rank} of {world} could not learn which run it belongs to ({self._trouble}), so "
            "it is a run of its own: set NANWATCH_RUN_ID to the same text on every rank"
        )
        facts = {"rank": f"{rank} of {world}", "rank_problem": problem}
        return Identity(self._own_id, group=world, problem=problem, facts=facts)

    # --- the store -------------------------------------------------------------------------------

    def _asked(self, rank: int) -> str:
        """The answer of the store; empty if there is none within a moment.

        On a thread of its own: torch waits without end for a store that takes the line and says
        nothing, and the caller has to bring what is measured to the disk.
        """
        if self._asking is None:
            self._asking = threading.Thread(
                target=self._ask, args=(rank,), name="nanwatch-ranks", daemon=True
            )
            try:
                self._asking.start()
            except RuntimeError:  # the interpreter ends
                self._asking = None
                return ""
        self._asking.join(ASK_S)
        if self._asking.is_alive():
            self._trouble = self._said or "the store that the processes share does not answer"
            return ""
        self._asking = None
        self._trouble = self._said or NO_STORE
        return self._answer

    def _ask(self, rank: int) -> None:
        try:
            self._answer = self._through_store(rank)
        except Exception as error:
            self._store = None
            self._said = f"{type(error).__name__}: {error}".splitlines()[0][:200]

    def _through_store(self, rank: int) -> str:
        """The id that all ranks share; empty if it is not there yet."""
        if self._store is None:
            self._store = self._open_store()
        if self._store is None:
            return ""
        if rank == 0:
            # After a restart of the group the id of before is still there: the run goes on.
            return _text(self._store.compare_set(self._key, "", self._own_id))
        if not self._store.check([self._key]):
            self._said = "rank 0 has not published it: does it call nanwatch.init, too?"
            return ""
        return _text(self._store.get(self._key))

    def _open_store(self) -> Any:
        """A line of our own to the store; None if there is none yet.

        Never the script's own line: a thread that waits on it would make the other wait as well.
        """
        environ = self._environ
        if self._launcher and environ.get("TORCHELASTIC_USE_AGENT_STORE", "").lower() == "true":
            port = _number(environ.get("MASTER_PORT", ""))
            return _connect(environ.get("MASTER_ADDR", ""), port)
        if group_now() is None:
            return None
        from torch.distributed import distributed_c10d

        store: Any = distributed_c10d._get_default_store()
        while hasattr(store, "underlying_store"):
            store = store.underlying_store
        if hasattr(store, "host") and hasattr(store, "port"):
            return _connect(store.host, store.port)
        return store


def _connect(host: str, port: int) -> Any:
    """A client of the TCPStore at this address. Raises OSError if nobody listens."""
    import torch.distributed as dist

    # Asked by hand first, for the same reason.
    socket.create_connection((host, port), REACH_TIMEOUT_S).close()
    timeout = timedelta(seconds=STORE_TIMEOUT_S)
    store: Any = dist
    return store.TCPStore(host, port, is_master=False, timeout=timeout, wait_for_workers=False)


def _text(value: Any) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value)
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise ValueError(f"expected a run id of 32 hexadecimal digits, got {text[:40]!r}")
    return text
