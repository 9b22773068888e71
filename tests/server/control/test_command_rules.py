"""Policy, the table of states, and the check of the audit chain: pure parts, odd values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanwatch.contract.commands import TERMINAL, TTL_S
from nanwatch_server.control import policy
from nanwatch_server.control.audit import verify_chain
from nanwatch_server.control.policy import Refused, clean_args, role_needed, ttl_s
from nanwatch_server.control.states import NEXT, IllegalTransition, moved
from nanwatch_server.domain.audit_chain import GENESIS, audit_hash
from nanwatch_server.domain.models import Command

NOW = {"": 3e-4}


def command(state: str) -> Command:
    return Command(
        id="c1", run_id="r", kind="stop", args={}, state=state, actor="a", role="control",
        reason="", created_at=0.0, expires_at=60.0, key="k",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "got True"),
        (False, "got False"),
        ("1", "got '1'"),
        (None, "got none"),
        ([1], r"got \[1\]"),
        ({}, r"got \{\}"),
        (math.nan, "got nan"),
        (math.inf, "got inf"),
        (-math.inf, "got -inf"),
        (0, "got 0.0"),
        (-0.0, "got -0.0"),
        (-1e-4, "got -0.0001"),
        (10**400, "got inf"),
        ("x" * 1000, "got 'x{50,60}$"),
    ],
)
def test_numbers_are_strict_and_the_sentence_says_what_came(value, said):
    for kind, name in (("set_lr", "lr"), ("scale_lr", "factor")):
        with pytest.raises(
            Refused, match=f"{kind} expects a .*number.* in '{name}', {said}"
        ) as got:
            clean_args(kind, {name: value})
        assert got.value.code == "invalid"


@given(st.floats(min_value=5e-324, max_value=1e308) | st.integers(1, 10**15))
def test_positive_numbers_pass_unchanged(value):
    assert clean_args("set_lr", {"lr": value, "scope": "q1"}) == {"lr": value, "scope": "q1"}
    assert type(clean_args("scale_lr", {"factor": value})["factor"]) is float


@pytest.mark.parametrize(
    ("kind", "args", "said"),
    [
        ("rm", {}, "expected a kind of set_lr, .*, stop, arm_tracing, got 'rm'"),
        ("set_lr", {}, "got none"),
        ("set_lr", {"lr": 1e-3, "x": 1}, "set_lr takes lr, scope, got 'x'"),
        ("set_lr", {"factor": 1e-3}, "got 'factor'"),
        ("set_lr", {"lr": 1e-3, "scope": 1}, "expects a name in 'scope', got 1"),
        ("set_lr", {"lr": 1e-3, "scope": "<b>"}, "expects a name"),
        ("checkpoint", {"path": "/x"}, "checkpoint takes no arguments, got 'path'"),
        ("stop", {"checkpoint": 1}, "expects true or false in 'checkpoint', got 1"),
        ("stop", {"checkpoint": "yes"}, "got 'yes'"),
        ("arm_tracing", {"steps": True}, "expects a whole number in 'steps', got True"),
        ("arm_tracing", {"steps": 50.0}, "expects a whole number in 'steps', got 50.0"),
        ("arm_tracing", {"steps": "50"}, "got '50'"),
        ("arm_tracing", {"steps": None}, "got None"),
        ("arm_tracing", {"steps": 0}, "expects 1 to 1000 attempts in 'steps', got 0"),
        ("arm_tracing", {"steps": 1001}, "got 1001"),
        ("arm_tracing", {"attempts": 5}, "arm_tracing takes steps, got 'attempts'"),
    ],
)
def test_other_arguments_are_strict_too(kind, args, said):
    with pytest.raises(Refused, match=said):
        clean_args(kind, args)


def test_defaults_of_arguments():
    assert clean_args("stop", {}) == {"checkpoint": True}
    assert clean_args("stop", {"checkpoint": False}) == {"checkpoint": False}
    assert clean_args("checkpoint", {}) == {}
    assert clean_args("arm_tracing", {}) == {"steps": 50}
    assert clean_args("arm_tracing", {"steps": 1000}) == {"steps": 1000}
    assert clean_args("set_lr", {"lr": 1, "scope": ""}) == {"lr": 1.0}


@pytest.mark.parametrize(
    ("kind", "args", "lr_now", "role"),
    [
        ("checkpoint", {}, NOW, "respond"),
        ("arm_tracing", {"steps": 1000}, NOW, "respond"),
        ("stop", {"checkpoint": True}, NOW, "control"),
        ("scale_lr", {"factor": 0.1}, {}, "respond"),
        ("scale_lr", {"factor": 1.0}, NOW, "respond"),
        ("scale_lr", {"factor": 1.0000001}, NOW, "control"),
        ("set_lr", {"lr": 3e-4}, NOW, "respond"),
        ("set_lr", {"lr": 3.1e-4}, NOW, "control"),
        # What is not known is not known to be lower.
        ("set_lr", {"lr": 1e-9}, {}, "control"),
        ("set_lr", {"lr": 1e-4}, {"pi": 1e-3, "q": 1e-5}, "control"),
        ("set_lr", {"lr": 1e-4, "scope": "pi"}, {"pi": 1e-3, "q": 1e-5}, "respond"),
        ("set_lr", {"lr": 1e-4, "scope": "q"}, {"pi": 1e-3, "q": 1e-5}, "control"),
        # The second group follows the first and keeps its ratio.
        ("set_lr", {"lr": 1e-4}, {"pi": 1e-3, "pi#1": 1e-5}, "respond"),
    ],
)
def test_raising_and_stopping_need_control(kind, args, lr_now, role):
    assert role_needed(kind, args, lr_now) == role


def test_time_to_live():
    assert [ttl_s(kind, None) for kind in TTL_S] == list(TTL_S.values())
    assert ttl_s("set_lr", 19.0) == 60.0
    assert ttl_s("set_lr", 100.0) == 300.0
    for odd in (math.nan, math.inf, -1.0, 0.0):
        assert ttl_s("set_lr", odd) == 60.0


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "é"])
def test_keys_and_reasons(key):
    with pytest.raises(Refused, match="Idempotency-Key"):
        policy.check_texts(key, "")
    with pytest.raises(Refused, match="at most 500"):
        policy.check_texts("k", "x" * 501)
    policy.check_texts("k" * 200, "x" * 500)


def test_the_table_leads_nowhere_from_a_final_state_and_everywhere_from_the_start():
    for state in TERMINAL:
        assert NEXT[state] == frozenset()
    reached, edge = {"queued"}, {"queued"}
    while edge:
        edge = {to for state in edge for to in NEXT[state]} - reached
        reached |= edge
    assert reached == set(NEXT)
    # The only ways into `applied`, and what cannot be taken back after arming.
    assert {state for state, nexts in NEXT.items() if "applied" in nexts} == {"armed", "unknown"}
    assert not NEXT["armed"] & {"cancelled", "superseded"}


def test_every_transition_outside_the_table_says_what_was_expected():
    for state, allowed in NEXT.items():
        for to in NEXT:
            if to in allowed:
                changed = moved(command(state), to, 5.0, "why")
                assert (changed.state, changed.transitions[-1].detail) == (to, "why")
            else:
                with pytest.raises(IllegalTransition, match=f"c1 is {state}: expected .*got {to}"):
                    moved(command(state), to, 5.0)
    with pytest.raises(IllegalTransition, match="nothing: the state is final"):
        moved(command("expired"), "applied", 5.0)


def test_the_chain_finds_every_kind_of_tampering(kit):
    store = kit.new_store()
    for n in range(5):
        with store.write() as uow:
            detail = {"n": n, "lr": float("nan"), "name": "ä"}
            uow.audit(at=n / 3, actor="a", role="", via="system", action="x", detail=detail)
    rows = store.audit_rows()[::-1]
    assert verify_chain(rows) is None
    assert verify_chain(rows[2:], previous=rows[1]["hash"], first=3) is None
    assert rows[0]["hash"] == audit_hash(GENESIS, rows[0])
    for changed in ({"actor": "b"}, {"at": 0.1}, {"detail": {}}, {"role": "admin"}, {"hash": "0"}):
        bad = [*rows[:2], {**rows[2], **changed}, *rows[3:]]
        assert verify_chain(bad) == 3, changed
    assert verify_chain(rows[1:]) == 2
    assert verify_chain([*rows[:2], *rows[3:]]) == 4
    assert verify_chain([rows[1], rows[0], *rows[2:]]) == 2
    forged = {**rows[2], "actor": "b"}
    forged["hash"] = audit_hash(rows[1]["hash"], forged)
    assert verify_chain([*rows[:2], forged, *rows[3:]]) == 4
