"""Who a process is: from its launcher, from its process group, from a store; never by guessing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch.distributed as dist

from nanwatch import ranks
from nanwatch.contract.commands import COMMAND_KINDS, ControlOffer, allowed_kinds, refusal
from nanwatch.ranks import Agreement, Identity, claim, from_launcher, release, run_id_of

ID = "0123456789abcdef" * 2
OTHER = "f" * 32
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "job",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "RANK": "1",
    "WORLD_SIZE": "2",
}


@pytest.fixture(autouse=True)
def _same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's processes begin their first run."""
    monkeypatch.setattr(ranks, "_begun", 0)


def agreement(env: dict[str, str], own: str = ID, attempts: int = 0, **more) -> Agreement:
    ranks._begun = 0  # as in a process of its own
    return Agreement(own, "project", lambda: attempts, environ=env, **more)


def settled(one: Agreement, timeout_s: float = 10) -> Identity:
    deadline = time.monotonic() + timeout_s
    while (found := one.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found is not None, "never settled"
    return found


@pytest.fixture
def store():
    """The store of a torchrun agent, on a real port."""
    made = dist.TCPStore(
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=5)
    )
    yield {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(made.port)}


def test_a_plain_process_is_alone_at_once():
    assert agreement({}).poll() == Identity(ID)


def test_numbers_of_a_batch_system_alone_make_nobody_a_rank():
    """`srun` starts sweeps of independent trainings in the same way."""
    slurm = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}
    assert agreement(slurm).poll() is None  # a process group may come
    assert agreement(slurm, attempts=ranks.ALONE_AFTER_ATTEMPTS).poll() == Identity(ID)
    assert agreement(slurm).poll(final=True) == Identity(ID)


@pytest.mark.parametrize("bad", [{"RANK": "2"}, {"RANK": "-1"}, {"RANK": "x"}, {"WORLD_SIZE": ""}])
def test_a_launcher_that_makes_no_sense_is_not_believed(bad):
    assert from_launcher(TORCHRUN) == (1, 2)
    assert from_launcher(TORCHRUN | bad) is None


def test_ranks_agree_through_the_store_of_their_launcher(store):
    follower = agreement(TORCHRUN | store, own=OTHER)
    assert follower.poll() is None  # rank 0 has not come yet
    leader = agreement(TORCHRUN | store | {"RANK": "0"})
    expected = {"world": 2, "group": 2, "facts": {"world_size": "2"}}
    assert settled(leader) == Identity(ID, 0, **expected)
    assert settled(follower) == Identity(ID, 1, **expected)


def test_a_restarted_group_goes_on_in_the_same_run(store):
    first = settled(agreement(TORCHRUN | store | {"RANK": "0"}))
    again = TORCHRUN | store | {"RANK": "0", "TORCHELASTIC_RESTART_COUNT": "1"}
    second = settled(agreement(again, own=OTHER))
    assert (second.run_id, second.generation) == (first.run_id, 1)


def test_a_second_run_of_the_same_processes_is_another_one(store):
    first = settled(agreement(TORCHRUN | store | {"RANK": "0"}))
    ranks._begun = 1
    env = TORCHRUN | store | {"RANK": "0"}
    second = settled(Agreement(OTHER, "project", lambda: 0, environ=env))
    assert (first.run_id, second.run_id) == (ID, OTHER)


def test_without_an_answer_it_becomes_a_run_of_its_own_and_says_so(store):
    lost = agreement(TORCHRUN | store, attempts=ranks.ALONE_AFTER_ATTEMPTS, within_s=0.2)
    found = settled(lost)
    assert (found.run_id, found.rank, found.world, found.group) == (ID, 0, 1, 2)
    assert "rank 1 of 2" in found.problem and "NANWATCH_RUN_ID" in found.problem
    assert found.facts["rank"] == "1 of 2"


def test_a_rank_that_does_not_train_yet_waits_for_rank_0(store):
    """Rank 0 prepares the data for minutes before it calls `init`."""
    early = agreement(TORCHRUN | store, own=OTHER, within_s=0.0)
    for _ in range(3):
        assert early.poll() is None
        time.sleep(0.01)
    settled(agreement(TORCHRUN | store | {"RANK": "0"}))
    found = settled(early)
    assert (found.run_id, found.rank, found.problem) == (ID, 1, "")


def test_a_store_that_is_not_there_costs_little_and_is_named():
    gone = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    started = time.monotonic()
    one = agreement(TORCHRUN | gone, idle_s=0.0)
    one.poll()
    assert "ConnectionRefusedError" in settled(one).problem
    assert time.monotonic() - started < ranks.REACH_TIMEOUT_S + 5


def test_a_store_that_takes_the_line_and_never_speaks_keeps_nobody_from_the_disk():
    """torch waits for its first word without end; the background thread has other work."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(mute.getsockname()[1])}
        done = subprocess.run(
            [sys.executable, "-c", ASKS_A_MUTE_STORE, repr(TORCHRUN | env)],
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert done.returncode == 0, done.stderr
    assert "does not answer" in done.stdout


ASKS_A_MUTE_STORE = """
import ast, sys
from nanwatch.ranks import Agreement
env = ast.literal_eval(sys.argv[1])
one = Agreement("f" * 32, "project", lambda: 0, environ=env, idle_s=2.0)
while (found := one.poll()) is None:
    pass
print(found.problem)
"""


def test_rubbish_in_the_store_is_no_run_id(store):
    port = int(store["MASTER_PORT"])
    client = dist.TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
    client.set("nanwatch/run/1", "../../etc")
    found = settled(agreement(TORCHRUN | store, idle_s=3.0), 30)
    assert found.run_id == ID and "32 hexadecimal digits" in found.problem


def test_a_given_run_id_needs_no_store():
    given = {"NANWATCH_RUN_ID": "nightly-7"}
    found = [agreement(TORCHRUN | given | {"RANK": rank}).poll() for rank in ("0", "1")]
    assert {one.run_id for one in found if one} == {run_id_of("nightly-7", "project")}
    assert [one.rank for one in found if one] == [0, 1]
    assert run_id_of(ID, "project") == ID
    assert run_id_of("nightly-7", "another") != run_id_of("nightly-7", "project")


def test_the_process_group_is_believed_before_the_environment(store, tmp_path):
    """Kubernetes operators count machines in RANK; scripts with `mp.spawn` count processes."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 's'}", rank=0, world_size=1)
    try:
        assert agreement(TORCHRUN | store | {"RANK": "1"}).poll() == Identity(ID)
    finally:
        dist.destroy_process_group()


def test_a_child_that_inherits_a_rank_is_not_that_rank():
    env = dict(TORCHRUN)
    assert claim(env) is True
    assert claim(env) is True  # a second run of the same process
    env[ranks.ACTIVE] = env[ranks.ACTIVE].replace(str(os.getpid()), "1")
    assert claim(env) is False  # an evaluation that rank 1 started
    env[ranks.ACTIVE] = env[ranks.ACTIVE].replace(str(os.getpid()), "1")
    assert claim(env | {"RANK": "0"}) is True  # ranks that a watched process launched
    given = env | {"NANWATCH_RUN_ID": "job"}
    assert agreement(given, own_rank=False).poll(final=True) == Identity(ID)
    release(env)
    assert ranks.ACTIVE in env  # not ours to take away


def test_several_ranks_refuse_what_would_split_them():
    alone = ControlOffer(lr=(1e-6, 1.0), checkpoint=True, stop=True, tracing=True)
    several = ControlOffer(lr=(1e-6, 1.0), checkpoint=True, stop=True, tracing=True, world=4)
    assert allowed_kinds(alone) == list(COMMAND_KINDS)
    assert allowed_kinds(several) == ["checkpoint", "arm_tracing"]
    for kind, args in (("set_lr", {"lr": 0.1}), ("scale_lr", {"factor": 0.5}), ("stop", {})):
        assert refusal(alone, kind, dict(args), {}, {}) is None
        why = refusal(several, kind, dict(args), {}, {})
        assert why is not None and "4 ranks" in why and "same step" in why
