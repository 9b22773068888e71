"""Incidents under other limits against those that a run has."""

from __future__ import annotations

import pytest

from nanwatch_server.backtest.compare import DROPPED, LIVE_ONLY, SHOWN_MAX, compared
from nanwatch_server.backtest.stored import Replayed
from nanwatch_server.backtest.trial import Trial, Verdict
from nanwatch_server.domain.models import (
    Diagnosis,
    Finding,
    Incident,
    IncidentState,
    Run,
    Severity,
)

RUN = Run(id="ab" * 16, project="p", name="n", created_at=1.0, started_at=1.0)


def incident(rule: str, onset: int, fired: int, last: int | None = None, **more) -> Incident:
    severity = more.pop("severity", Severity.WARNING)
    found = Finding(
        run_id=RUN.id, rule=rule, severity=severity, step=fired, onset_step=onset, time=1.0,
        title=rule, message="",
    )  # fmt: skip
    return Incident(
        id=more.pop("id", f"{rule}-{onset}-{fired}"), run_id=RUN.id, state=IncidentState.FIRING,
        severity=severity,
        diagnosis=Diagnosis(syndrome="s", title=rule, what="", why="", confidence=0.5),
        onset_step=onset, fired_step=fired, last_step=fired if last is None else last,
        opened_at=1.0, updated_at=1.0, count=1, findings=(found,), **more,
    )  # fmt: skip


def replayed(fired: list[Incident], before: list[Incident], dropped: int = 0, first: int = 0):
    verdict = Verdict((), tuple(fired), (), first_step=first, last_step=9_000, points=10)
    return Replayed(RUN, verdict, tuple(before), dropped, Trial({}))


def states(*given, off: frozenset[str] = frozenset(), **more) -> list[tuple[str, str]]:
    rows = compared(replayed(*given, **more), off)["incidents"]
    return [(one["state"], one["title"]) for one in rows]


def test_the_same_trouble_is_told_by_its_steps_and_its_family_not_by_its_id():
    before = [incident("grad_explosion", 100, 150, 400), incident("plateau", 100, 200)]
    fired = [incident("skip_streak", 120, 130, 500), incident("entropy_collapse", 110, 300)]
    assert states(fired, before) == [
        ("gone", "plateau"),
        ("new", "entropy_collapse"),
        ("same", "skip_streak"),
    ]


def test_trouble_at_other_steps_is_another_one():
    before = [incident("grad_explosion", 100, 150, 400, resolved_step=600)]
    assert states([incident("grad_explosion", 601, 650)], before) == [
        ("gone", "grad_explosion"),
        ("new", "grad_explosion"),
    ]
    assert states([incident("grad_explosion", 600, 650)], before) == [("same", "grad_explosion")]


def test_one_that_becomes_two_is_neither_new_nor_gone():
    before = [incident("grad_explosion", 100, 150, 4_000)]
    fired = [incident("grad_explosion", 100, 120, 300), incident("grad_spike", 3_000, 3_050)]
    assert [state for state, _ in states(fired, before)] == ["same", "same"]


def test_what_a_replay_cannot_see_is_not_called_gone():
    silence = incident("stall", 500, 500)
    (row,) = compared(replayed([], [silence]))["incidents"]
    assert (row["state"], row["why"]) == ("unknown", LIVE_ONLY)
    assert states([], [silence], off=frozenset({"stall"})) == [("gone", "stall")]
    old = [incident("plateau", 100, 1_200), incident("loss_spike", 5_000, 5_100)]
    rows = compared(replayed([], old, dropped=7, first=4_000))["incidents"]
    assert [(one["state"], one["why"]) for one in rows] == [("unknown", DROPPED), ("gone", "")]


@pytest.mark.parametrize("count", [SHOWN_MAX, SHOWN_MAX + 3])
def test_a_run_with_very_many_is_cut_and_says_so(count: int):
    fired = [incident("grad_explosion", 10 * n, 10 * n + 1) for n in range(count)]
    found = compared(replayed(fired, []))
    assert (found["fired"], len(found["incidents"])) == (count, SHOWN_MAX)
    assert found["more"] == count - SHOWN_MAX
