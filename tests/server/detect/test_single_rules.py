"""What each rule says and keeps to itself, on small exact cases."""

from __future__ import annotations

import numpy as np
import pytest
from families import RUN, Trace, alarms, exploding, exploding_q, noise, watch

from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Finding, Severity


def of(findings: list[Finding], rule: str) -> list[Finding]:
    return [f for f in findings if f.rule == rule]


def with_gap(n: int, bad: slice, *, reason: float) -> Trace:
    """Attempts `bad` are skipped with an infinite gradient."""
    applied = np.ones(n)
    applied[bad] = 0
    return Trace(
        {
            "loss": np.full(n, 0.94),
            "grad_norm": np.where(applied == 0, np.inf, 1.0),
            "update_applied": applied,
            "skip_reason": np.where(applied == 0, reason, 0.0),
        }
    )


def test_streak_warns_at_5_and_is_critical_at_20() -> None:
    found = of(watch(with_gap(400, slice(100, 400), reason=2.0)), "skip_streak")
    assert [(f.step, f.severity) for f in found] == [
        (104, Severity.WARNING),
        (119, Severity.CRITICAL),
    ]
    assert found[1].onset_step == 100
    assert found[1].title == "20 updates skipped in a row, non-finite gradients"
    assert "0.94" in found[1].message and "since step 100" in found[1].message


def test_four_skips_in_a_row_are_nothing() -> None:
    assert not of(watch(with_gap(400, slice(100, 104), reason=2.0)), "skip_streak")


def test_scaler_may_halve_sixteen_times_at_the_start() -> None:
    assert not watch(with_gap(400, slice(0, 16), reason=1.0))


def test_the_same_skips_later_are_a_streak() -> None:
    assert of(watch(with_gap(400, slice(100, 116), reason=1.0)), "skip_streak")


def test_half_of_the_last_fifty_skipped_is_critical() -> None:
    trace = with_gap(300, slice(100, 300, 2), reason=2.0)
    found = of(watch(trace), "skip_streak")
    assert found[0].severity == Severity.CRITICAL
    assert "50 % of the last 50" in found[0].title


def test_skipped_bad_gradient_is_a_notice_applied_is_critical() -> None:
    trace = with_gap(300, slice(100, 101), reason=2.0)
    assert next(f.severity for f in of(watch(trace), "nonfinite")) == Severity.NOTICE
    trace.scalars["update_applied"][:] = 1
    first = of(watch(trace), "nonfinite")[0]
    assert first.severity == Severity.CRITICAL
    assert "damaged" in first.message


def test_nan_loss_is_critical_and_clears_200_records_after_the_last() -> None:
    loss = np.ones(1000)
    loss[[300, 310]] = np.nan
    found = [f for f in watch(Trace({"loss": loss})) if f.rule == "nonfinite"]
    assert [(f.step, f.severity, f.cleared) for f in found] == [
        (300, Severity.CRITICAL, False),
        (510, Severity.CRITICAL, True),
    ]


def test_all_layers_at_once_is_said() -> None:
    trace = with_gap(300, slice(100, 300), reason=2.0)
    trace.layers = {"grad_norm_layer": (("a", "b"), np.tile(trace.scalars["grad_norm"], (2, 1)))}
    assert "All 2 layers at once" in of(watch(trace), "nonfinite")[0].message


def test_nan_between_does_not_blind_the_growth_rules() -> None:
    rng = np.random.default_rng(0)
    trace = exploding(rng, 900, 20, 1.0)
    trace.scalars["grad_norm"][::3] = np.nan
    trace.scalars["update_applied"][::3] = 0
    rules = {f.rule for f in alarms(watch(trace))}
    assert {"grad_explosion", "clip_saturation"} <= rules


def test_nan_is_no_all_clear() -> None:
    """What exploded into NaN has not calmed down."""
    trace = exploding(np.random.default_rng(0), 1500, 5, 1.0)
    trace.scalars["loss"][840:] = np.nan
    found = watch(trace)
    assert {f.rule for f in found} >= {"grad_explosion", "clip_saturation", "nonfinite"}
    assert not any(f.cleared for f in found)


def test_clipping_most_steps_is_a_notice_once() -> None:
    trace = Trace({"grad_norm": np.full(3000, 4.0), "clip_threshold": np.ones(3000)})
    found = watch(trace)
    assert [(f.rule, f.severity) for f in found] == [("clip_saturation", Severity.NOTICE)]


def test_far_above_the_clip_warns_unless_it_learns() -> None:
    rng = np.random.default_rng(1)
    norm, clip = 300 * noise(rng, 600, 0.2), np.ones(600)
    stuck = Trace({"grad_norm": norm, "clip_threshold": clip, "loss": noise(rng, 600, 0.1)})
    assert [f.severity for f in watch(stuck) if f.rule == "clip_saturation"] == [Severity.WARNING]
    learning = np.exp(-np.arange(600) / 200)
    good = Trace({"grad_norm": norm, "clip_threshold": clip, "loss": learning})
    assert not alarms(watch(good))


def test_reminder_every_1000_records_and_no_more() -> None:
    trace = Trace({"grad_norm": np.full(5000, 1e6), "clip_threshold": np.ones(5000)})
    found = watch(trace)
    gaps = np.diff([f.step for f in found])
    assert len(found) == 5 and ((gaps >= 1000) & (gaps <= 1008)).all()


def test_clear_then_again_is_two_turns() -> None:
    rng = np.random.default_rng(2)
    norm = noise(rng, 3000, 0.2)
    norm[500:520] *= 1e5
    norm[2000:2020] *= 1e5
    found = of(watch(Trace({"grad_norm": norm})), "grad_explosion")
    turns = [(f.onset_step, f.cleared) for f in found if f.cleared or f.severity >= 2]
    assert turns == [(500, False), (500, True), (2000, False), (2000, True)]


def test_q_below_its_bound_is_no_alarm_whatever_its_size() -> None:
    """Rewards of 90 and gamma 0.999 allow 90 000: growth towards it is learning."""
    q = 60_000 / (1 + np.exp(-(np.arange(3000) - 1500) / 100))
    trace = Trace({"q_max": q, "reward_abs_max": np.full(3000, 90.0)}, {"gamma": "0.999"})
    assert not alarms(watch(trace))


def test_q_ten_times_beyond_the_bound_is_critical_while_it_grows() -> None:
    trace = exploding_q(np.random.default_rng(3), 4000, 150, 1.0)
    found = of(alarms(watch(trace)), "q_growth")
    assert [f.severity for f in found][:2] == [Severity.WARNING, Severity.CRITICAL]
    assert "gamma 0.99, |Q| cannot exceed 100" in found[0].message


def test_assumed_gamma_is_said() -> None:
    trace = exploding_q(np.random.default_rng(3), 3000, 100, 1.0)
    found = of(alarms(watch(trace, facts={})), "q_growth")
    assert "0.99 (assumed)" in found[0].message


def test_rewards_from_another_block_set_the_bound() -> None:
    trace = exploding_q(np.random.default_rng(4), 3000, 100, 1.0)
    rewards = Trace({"reward_abs_max": trace.scalars.pop("reward_abs_max")})
    detector = RunDetector(RUN, trace.facts)
    found: list[Finding] = []
    for at in range(0, 3000, 50):
        found += detector.update(rewards.block(at, at + 50, scope="env"))
        found += detector.update(trace.block(at, at + 50, scope="critic"))
    first = of(alarms(found), "q_growth")[0]
    assert first.scope == "critic" and "rewards up to 1 " in first.message


def test_validation_is_not_judged() -> None:
    detector = RunDetector(RUN, {})
    trace = Trace({"loss": np.full(50, np.nan)})
    assert not detector.update(trace.block(0, 50, stage="val"))
    assert detector.update(trace.block(0, 50))


def test_scopes_have_windows_of_their_own() -> None:
    rng = np.random.default_rng(5)
    sick, well = exploding(rng, 800, 20, None), exploding(rng, 800, 1e9, None)
    detector = RunDetector(RUN, {})
    found: list[Finding] = []
    for at in range(0, 800, 100):
        found += detector.update(well.block(at, at + 100, scope="policy"))
        found += detector.update(sick.block(at, at + 100, scope="q1"))
    assert {f.scope for f in alarms(found)} == {"q1"}


def test_layers_may_come_and_go() -> None:
    rng = np.random.default_rng(6)
    detector = RunDetector(RUN, {})
    found: list[Finding] = []
    sets = [("a", "b"), ("a", "b", "c"), ("c",), ("b", "c")]
    trace = exploding(rng, 1200, 30, None)
    for at in range(0, 1200, 40):
        names = sets[(at // 200) % 4]
        norms = trace.scalars["grad_norm"]
        trace.layers = {"grad_norm_layer": (names, np.tile(norms, (len(names), 1)))}
        found += detector.update(trace.block(at, at + 40))
    assert alarms(found)[0].rule == "grad_explosion"


@pytest.mark.parametrize("what", ["fit", "task", "resume"])
def test_windows_restart_at_marks(what: str) -> None:
    """A second task that starts 300 times higher is no explosion."""
    rng = np.random.default_rng(7)
    calm, high = noise(rng, 500, 0.2), 300 * noise(rng, 500, 0.2)
    for marked in (True, False):
        detector = RunDetector(RUN, {})
        detector.update(Trace({"grad_norm": calm}).block(0, 500))
        if marked:
            detector.mark(what, 500, {})
        found = detector.update(Trace({"grad_norm": high}).block(0, 500))
        assert bool(alarms(found)) is not marked


def test_config_mark_teaches_gamma() -> None:
    detector = RunDetector(RUN, {})
    detector.mark("config", 0, {"algo.gamma": "0.5"})
    trace = exploding_q(np.random.default_rng(8), 3000, 100, 1.0)
    found = of(alarms(detector.update(trace.block(0, 3000))), "q_growth")
    assert "gamma 0.5" in found[0].message


def test_coverage_says_what_could_not_be_checked() -> None:
    detector = RunDetector(RUN, {})
    detector.update(Trace({"loss": np.ones(10), "grad_norm": np.ones(10)}).block(0, 10))
    cover = {entry["rule"]: entry for entry in detector.coverage()}
    assert cover["grad_explosion"]["ran"] and cover["grad_explosion"]["records"] == 10
    assert cover["clip_saturation"]["why"] == "no clip_threshold sent"
    assert not cover["q_growth"]["ran"] and "q_max" in cover["q_growth"]["why"]


def test_limits_can_be_changed_but_not_misspelt() -> None:
    trace = with_gap(400, slice(100, 104), reason=2.0)
    strict = RunDetector(RUN, {}, {"skip_streak": {"warning": 3}})
    assert of(alarms(strict.update(trace.block(0, 400))), "skip_streak")
    with pytest.raises(ValueError, match="no limit 'warnig'"):
        RunDetector(RUN, {}, {"skip_streak": {"warnig": 3}})
    with pytest.raises(ValueError, match="no rule is called 'skips'"):
        RunDetector(RUN, {}, {"skips": {}})


def test_titles_fit_and_carry_a_number() -> None:
    found = watch(exploding(np.random.default_rng(9), 1500, 9, 1.0))
    for one in found:
        assert len(one.title) <= 80
        assert any(c.isdigit() for c in one.title)
        assert "anomaly" not in one.message.lower() and "!" not in one.message
