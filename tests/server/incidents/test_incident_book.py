"""One trouble, one incident: opening, growing, quieting, resolving, coming back, replaying."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.diagnose.syndromes import diagnose
from nanwatch_server.domain.models import (
    Diagnosis,
    Finding,
    Incident,
    IncidentState,
    Severity,
)
from nanwatch_server.incidents.lifecycle import IncidentBook, acknowledge, resolve, snooze

RUN = "ab" * 16
N, W, C = Severity.NOTICE, Severity.WARNING, Severity.CRITICAL


def name(findings: Sequence[Finding], facts: dict[str, str]) -> Diagnosis:
    """Says which findings it was given."""
    title = " ".join(f"{f.rule}@{f.step}" for f in findings)
    return Diagnosis(syndrome="x", title=title, what="", why="", confidence=0.5)


def book() -> IncidentBook:
    return IncidentBook(RUN, {}, diagnose=name)


def finding(rule: str, step: int, severity: Severity = W, **more: object) -> Finding:
    base = Finding(
        run_id=RUN,
        rule=rule,
        severity=severity,
        step=step,
        onset_step=step - 50,
        time=0.0,
        title="t",
        message="m",
    )
    return replace(base, **more)  # type: ignore[arg-type]


def cleared(rule: str, step: int, **more: object) -> Finding:
    return finding(rule, step, cleared=True, **more)


def one(incidents: list[Incident]) -> Incident:
    assert len(incidents) == 1
    return incidents[0]


def test_opens_with_an_id_that_follows_from_the_finding() -> None:
    got = one(book().fold([finding("grad_explosion", 500)], 510, 7.0))
    assert got.id == "abababababab-450-grad_explosion"
    assert (got.state, got.onset_step, got.fired_step, got.opened_at) == ("firing", 450, 500, 7.0)
    assert one(book().fold([finding("grad_explosion", 500)], 9, 9.0)).id == got.id


def test_notices_open_nothing_and_worsen_nothing() -> None:
    b = book()
    assert not b.fold([finding("q_growth", 5, N)], 5, 0.0)
    b.fold([finding("q_growth", 10)], 10, 0.0)
    assert not b.fold([finding("clip_saturation", 11, N)], 11, 0.0)


def test_findings_of_one_trouble_share_an_incident() -> None:
    b = book()
    first = one(b.fold([finding("grad_explosion", 500)], 500, 1.0))
    more = one(b.fold([finding("clip_saturation", 520, C, onset_step=100)], 520, 2.0))
    assert more.id == first.id
    assert (more.severity, more.onset_step, more.count, more.last_step) == (C, 100, 2, 520)
    assert more.diagnosis.title == "grad_explosion@500 clip_saturation@520"


def test_severity_only_rises() -> None:
    b = book()
    b.fold([finding("grad_explosion", 500, C)], 500, 1.0)
    assert one(b.fold([finding("q_growth", 520, W)], 520, 2.0)).severity == C


def test_unknown_rules_are_troubles_of_their_own() -> None:
    b = book()
    b.fold([finding("grad_explosion", 500)], 500, 1.0)
    other = one(b.fold([finding("stall", 510)], 510, 2.0))
    assert other.id.endswith("stall") and other.count == 1


def test_nan_silences_its_consequences() -> None:
    b = book()
    b.fold([finding("nonfinite", 500, C, onset_step=500)], 500, 1.0)
    got = one(b.fold([finding("loss_divergence", 600, C, onset_step=550)], 600, 2.0))
    assert got.count == 2
    assert got.diagnosis.title == "nonfinite@500"
    later = one(b.fold([finding("loss_growth", 610, C, onset_step=560)], 610, 3.0))
    assert "loss_growth" in later.diagnosis.title, "what grows is finite: it outlived the NaN"
    earlier = one(b.fold([finding("grad_explosion", 620, onset_step=450)], 620, 3.0))
    assert "grad_explosion" in earlier.diagnosis.title, "what began before it may be its cause"


def test_resolves_when_every_rule_is_clear() -> None:
    b = book()
    b.fold([finding("grad_explosion", 500), finding("clip_saturation", 510)], 510, 1.0)
    assert one(b.fold([cleared("grad_explosion", 710)], 710, 2.0)).state == "firing"
    assert not b.fold([], 5000, 3.0), "clip_saturation still fires"
    got = one(b.fold([cleared("clip_saturation", 5010)], 5012, 4.0))
    assert (got.state, got.resolved_step, got.resolved_at) == ("resolved", 5012, 4.0)
    assert not b.fold([], 6000, 5.0)


def test_waits_200_steps_even_if_rules_clear_at_once() -> None:
    b = book()
    b.fold([finding("grad_explosion", 500)], 500, 1.0)
    assert one(b.fold([cleared("grad_explosion", 520)], 520, 2.0)).state == "firing"
    assert not b.fold([], 699, 3.0)
    assert one(b.fold([], 700, 4.0)).state == "resolved"


def gone(b: IncidentBook) -> Incident:
    b.fold([finding("grad_explosion", 500)], 500, 1.0)
    return one(b.fold([cleared("grad_explosion", 700)], 700, 2.0))


def test_back_within_1000_steps_is_the_same_incident() -> None:
    b = book()
    old = gone(b)
    got = one(b.fold([finding("q_growth", 1600)], 1600, 3.0))
    assert (got.id, got.state, got.reopened, got.resolved_step) == (old.id, "firing", 1, None)


def test_back_later_is_a_new_one() -> None:
    b = book()
    old = gone(b)
    got = one(b.fold([finding("grad_explosion", 1701)], 1701, 3.0))
    assert got.id != old.id and got.reopened == 0


def test_same_onset_again_gets_an_id_of_its_own() -> None:
    b = book()
    old = gone(b)
    got = one(b.fold([finding("grad_explosion", 9000, onset_step=450)], 9000, 3.0))
    assert got.id != old.id


def test_acknowledged_until_it_gets_worse() -> None:
    b = book()
    seen = acknowledge(one(b.fold([finding("grad_explosion", 500)], 500, 1.0)), "kim", 2.0)
    assert (seen.state, seen.acknowledged_by) == ("acknowledged", "kim")
    b.replace(seen)
    assert one(b.fold([finding("q_growth", 510)], 510, 3.0)).state == "acknowledged"
    assert one(b.fold([finding("q_growth", 520, C)], 520, 4.0)).state == "firing"


def test_snooze_ends_by_time() -> None:
    b = book()
    b.replace(snooze(one(b.fold([finding("grad_explosion", 500)], 500, 1.0)), 100.0, 2.0))
    assert not b.fold([], 510, 99.0)
    assert one(b.fold([], 510, 100.0)).state == "firing"


def test_snooze_until_worse() -> None:
    b = book()
    b.replace(snooze(one(b.fold([finding("grad_explosion", 500)], 500, 1.0)), math.inf, 2.0))
    assert not b.fold([], 510, 1e12)
    assert one(b.fold([finding("q_growth", 520)], 520, 3.0)).state == "snoozed"
    assert one(b.fold([finding("q_growth", 530, C)], 530, 4.0)).state == "firing"


@pytest.mark.parametrize("act", [lambda i: acknowledge(i, "kim", 9.0), lambda i: snooze(i, 1, 9.0)])
def test_a_resolved_incident_stays_resolved(act) -> None:
    incident = resolve(one(book().fold([finding("q_growth", 5)], 5, 1.0)), 6, 2.0)
    assert act(incident) == incident == resolve(incident, 7, 3.0)


def test_resolved_by_hand_opens_again_while_the_rule_still_fires() -> None:
    b = book()
    b.replace(resolve(one(b.fold([finding("grad_explosion", 500)], 500, 1.0)), 510, 2.0))
    assert not b.fold([], 600, 3.0)
    again = one(b.fold([finding("grad_explosion", 1500)], 1500, 4.0))
    assert (again.state, again.reopened) == ("firing", 1)


def test_nan_at_every_step_is_one_incident_of_bounded_size() -> None:
    b = book()
    for step in range(0, 600_000, 1000):
        got = one(b.fold([finding("nonfinite", step, C, onset_step=0)], step, 1.0))
    assert got.count == 600
    assert len(got.findings) <= 3


def test_flapping_stays_bounded() -> None:
    b = book()
    for step in range(0, 100_000, 250):
        b.fold([finding("q_growth", step), cleared("q_growth", step + 201)], step + 201, 1.0)
    assert len(one(b.fold([finding("q_growth", 100_050)], 100_050, 1.0)).findings) <= 3


def test_rule_without_a_word_for_long_is_taken_as_clear() -> None:
    b = book()
    b.fold([finding("grad_explosion", 500)], 500, 1.0)
    assert not b.fold([], 20_000, 2.0)
    assert one(b.fold([], 20_500, 3.0)).state == "resolved"


def story() -> list[list[Finding]]:
    return [
        [finding("grad_explosion", 500)],
        [finding("clip_saturation", 510), finding("grad_explosion", 540, C)],
        [],
        [finding("grad_explosion", 1540, C, onset_step=450)],
        [cleared("grad_explosion", 1800, severity=C), cleared("clip_saturation", 1810)],
        [finding("q_growth", 2500)],
        [cleared("q_growth", 2900)],
        [finding("nonfinite", 9000, C)],
    ]


def last_step(findings: list[Finding], before: int) -> int:
    return max([before, *(f.step for f in findings)])


@given(st.integers(0, 8), st.integers(0, 8))
def test_restart_and_replay_create_nothing_twice(at: int, back: int) -> None:
    """Restore after `at` updates and hear the last `back` of them again."""
    b, step = book(), 0
    stored: dict[str, Incident] = {}
    for findings in story():
        step = last_step(findings, step)
        stored |= {i.id: i for i in b.fold(findings, step, 1.0)}
    other, step, saved = book(), 0, {}
    for findings in story()[:at]:
        step = last_step(findings, step)
        saved |= {i.id: i for i in other.fold(findings, step, 1.0)}
    other = IncidentBook.restore(RUN, {}, list(saved.values()), diagnose=name)
    for findings in story()[max(0, at - back) :]:
        step = last_step(findings, step)
        saved |= {i.id: i for i in other.fold(findings, step, 1.0)}

    def shape(incidents: dict[str, Incident]) -> list[tuple[object, ...]]:
        return sorted((i.id, i.state, i.severity, i.reopened) for i in incidents.values())

    assert shape(saved) == shape(stored)
    assert all(saved[key].count <= stored[key].count + 1 for key in stored)


def test_without_a_diagnosis_the_worst_finding_speaks() -> None:
    plain = IncidentBook(RUN, {})
    got = one(plain.fold([finding("q_growth", 5, title="|Q| 12 400")], 5, 1.0))
    assert (got.diagnosis.syndrome, got.diagnosis.title) == ("q_growth", "|Q| 12 400")
    assert got.state is IncidentState.FIRING


def test_nan_at_every_step_for_ten_minutes_is_one_incident() -> None:
    """1,000 steps a second: one incident with a count, and few changes to tell anybody of."""
    detector, book = RunDetector(RUN, {}), IncidentBook(RUN, {}, diagnose=diagnose)
    told = 0
    for start in range(0, 600_000, 50_000):
        steps = np.arange(start, start + 50_000)
        nan = np.full(len(steps), np.nan)
        block = Block("", "train", steps, steps / 1000, {"loss": nan, "grad_norm": nan})
        told += len(book.fold(detector.update(block), int(steps[-1]), steps[-1] / 1000))
    (incident,) = book._incidents.values()
    assert incident.state == "firing" and incident.count >= 600
    assert told <= 12 and len(incident.findings) <= 8
