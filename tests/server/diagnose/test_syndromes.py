"""The named cause, its words and its remedies, for each kind of trouble in the incident reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nanwatch_server.diagnose.forecast import steps_left
from nanwatch_server.diagnose.standstills import STANDSTILLS
from nanwatch_server.diagnose.syndromes import SYNDROMES, diagnose
from nanwatch_server.domain import labels
from nanwatch_server.domain.models import Diagnosis, Evidence, Finding, Severity, Suggestion

W, C = Severity.WARNING, Severity.CRITICAL


def finding(rule: str, severity: Severity = W, **more: object) -> Finding:
    base = Finding(
        run_id="0" * 32,
        rule=rule,
        severity=severity,
        step=500,
        onset_step=300,
        time=0.0,
        title=f"{rule} 7",
        message=f"{rule} says 7.",
    )
    return replace(base, **more)  # type: ignore[arg-type]


def growth(clip: str = "no clip", norm: str = "4096", **more: object) -> Finding:
    evidence = (Evidence(label="Gradient norm", value=norm, limit=clip, kind="grad_norm"),)
    more = {"evidence": evidence, "doubling_steps": 20.0} | more
    return finding("grad_explosion", **more)  # type: ignore[arg-type]


def saturated(severity: Severity = W, reward: str = "") -> Finding:
    evidence = [
        Evidence(label="Norm before clipping, median", value="4e4", limit="5", kind="grad_norm")
    ]
    if reward:
        evidence.append(Evidence(label="Largest |reward|", value=reward, kind="reward"))
    return finding("clip_saturation", severity, evidence=tuple(evidence))


def q(reward: str = "") -> Finding:
    evidence = [Evidence(label="|Q|", value="12400", limit="2000", kind="q_max")]
    if reward:
        evidence.append(Evidence(label="Largest |reward|", value=reward, kind="reward"))
    return finding("q_growth", evidence=tuple(evidence), doubling_steps=900.0)


def went(kind: str, value: str = "NaN", step: int = 300, layer: str = "") -> Finding:
    """A value that is not finite, with nothing told of what came before."""
    evidence = (Evidence(label=kind, value=value, limit="finite", kind=kind, layer=layer),)
    return finding("nonfinite", C, step=step, onset_step=step, kind=kind, evidence=evidence)


def climb(onset: int) -> Finding:
    return finding("loss_explosion", C, onset_step=onset)


def copies(diagnosis: Diagnosis) -> list[str]:
    return [s.copy for s in diagnosis.suggestions if s.copy]


def commands(diagnosis: Diagnosis) -> dict[str, Suggestion]:
    return {s.command: s for s in diagnosis.suggestions if s.command}


LSTM = {"recurrent": "1", "lr": "0.001", "seq_len": "64"}
LONG = {"train.timesteps": "256", "bptt_window": "None", "lr": "0.0003"}
ROSE = Evidence(label=labels.RATE_ROSE, value="1e-05 → 0.003", kind="lr")
LEAPT = growth(evidence=(Evidence(label=labels.LEAP, value="1e+09x", kind="grad_norm"), ROSE))
UNFIT = Evidence(label=labels.STATISTICS_UNFIT, value="40x", kind="buffer_abs_max_layer")
MOVED = Evidence(label=labels.STATISTICS_MOVED, value="21x", kind="buffer_abs_max_layer")
BLUE = growth(
    evidence=(Evidence(label=labels.LEAP, value="1e+09x", kind="grad_norm"),),
    doubling_steps=None,
    onset_step=500,
)
THROWN = Evidence(label=labels.WEIGHTS_LEAPT, value="60", kind="param_norm_layer")
GREW = Evidence(label=labels.WEIGHTS_GREW, value="900", kind="param_norm_layer")
STANDS = Evidence(label=labels.LOSS_STANDS, value="1 %, and falls no more", kind="loss")
SKIPS = Evidence(label="Skipped in a row", value="100", kind="update_applied")
CASES = [
    ("exploding-gradient", [growth()], {"recurrent": "1"}),
    ("exploding-gradient", [growth(), finding("nonfinite", C, kind="loss")], {}),
    ("exploding-gradient", [growth(), finding("skip_streak", W)], {}),
    ("explosion-hidden-by-clipping", [growth("clip 1"), saturated()], LONG),
    ("explosion-hidden-by-clipping", [saturated(C)], {}),
    ("all-updates-skipped", [growth("clip 1"), saturated(), finding("skip_streak", C)], LONG),
    ("all-updates-skipped", [finding("skip_streak", C)], {"gamma": "0.99"}),
    ("reward-scale", [saturated(C, "2.2e+06")], {"gamma": "0.99"}),
    ("reward-scale", [q("2.2e+06"), finding("nonfinite", C, kind="loss")], {"gamma": "0.99"}),
    ("bootstrap-divergence", [q("1")], {"gamma": "0.99"}),
    ("bootstrap-divergence", [q()], {}),
    ("replay-corruption", [growth()], {"buffer_size": "500", "alpha": "0.3"}),
    ("nonfinite-loss", [finding("nonfinite", C, kind="loss")], {}),
    ("nonfinite-gradient", [finding("nonfinite", C, kind="grad_norm")], {}),
    ("divergence", [finding("loss_divergence", onset_step=390)], {}),
    ("loss-spike", [finding("loss_divergence", onset_step=455)], {}),
    ("loss-spike", [finding("loss_spike", onset_step=300)], {}),
    ("divergence", [finding("loss_growth", step=700, onset_step=300)], {}),
    ("learning-rate-too-high", [growth(evidence=(ROSE,))], {}),
    ("learning-rate-too-high", [growth(onset_step=4, step=12)], {"lr": "10"}),
    ("learning-rate-too-high", [finding("loss_explosion", C, onset_step=2, step=6)], {}),
    ("exploding-gradient", [growth(onset_step=4, step=12)], {"recurrent": "1"}),
    ("replay-corruption", [finding("replay_health")], {}),
    ("sanitised-numbers", [finding("constant_loss"), finding("skip_streak", W)], {}),
    ("sanitised-numbers", [finding("repaired")], {}),
    ("half-precision-overflow", [finding("nonfinite", C, kind="loss")], {"amp": "float16"}),
    ("loss-scale-collapse", [finding("loss_scale", C)], {"amp": "1"}),
    ("all-updates-skipped", [finding("loss_scale", C), finding("skip_streak", C)], {"amp": "1"}),
    ("logit-growth", [finding("logit_growth")], {}),
    ("attention-logit-growth", [finding("attention_growth"), finding("logit_growth")], {}),
    ("batchnorm-drift", [finding("buffer_drift")], {}),
    ("batchnorm-drift", [growth(), finding("idle_statistics", onset_step=0)], {}),
    # the clip hid it for long, then it leapt
    (
        "explosion-hidden-by-clipping",
        [finding("clip_saturation", C, step=104), replace(LEAPT, onset_step=290)],
        {},
    ),
    (
        "explosion-hidden-by-clipping",  # whatever reminders follow
        [
            finding("clip_saturation", C, step=104),
            replace(LEAPT, onset_step=290),
            finding("clip_saturation", C, step=1104),
        ],
        {},
    ),
    (
        "replay-corruption",
        [finding("unreached", onset_step=0)],
        {"gamma": "0.95", "buffer_size": "10000"},
    ),
    ("no-gradient", [finding("unreached", onset_step=0)], {"gamma": "0.95", "algo": "PPO"}),
    ("learning-rate-too-high", [finding("surge", evidence=(ROSE,)), went("loss", step=510)], {}),
    (
        "exploding-gradient",
        [finding("surge", evidence=(ROSE,)), went("loss", step=510)],
        {"recurrent": "1"},
    ),
    (
        "learning-rate-too-high",
        [finding("weight_leap", step=3, onset_step=2), went("loss", "Infinity", step=11)],
        {},
    ),
    ("loss-spike", [climb(499), went("loss", "Infinity", step=501)], {}),
    # out of the blue, however large the rewards are
    (
        "nonfinite-loss",
        [
            replace(
                went("loss"),
                evidence=(
                    *went("loss").evidence,
                    Evidence(label="Largest |reward|", value="200", kind="reward"),
                ),
            )
        ],
        {"gamma": "0.99"},
    ),
    ("half-precision-overflow", [finding("half_loss"), went("loss", "Infinity")], {}),
    ("edge-of-domain", [finding("near_edge"), went("loss", "NaN")], {}),
    ("exploding-gradient", [went("loss", "Infinity", step=300)], {"unrolled": "24"}),
    ("weight-growth", [finding("weight_growth")], {}),
    ("weight-growth", [finding("weight_leap", evidence=(GREW,))], {}),
    ("learning-rate-too-high", [finding("weight_leap", evidence=(THROWN,))], {}),
    (
        "bootstrap-divergence",
        [finding("weight_leap", evidence=(THROWN,), scope="critic")],
        {"gamma": "0.99"},
    ),
    ("gan-divergence", [finding("weight_leap", evidence=(THROWN,), scope="generator")], {}),
    ("exploding-gradient", [finding("grad_level")], {}),
    ("gan-divergence", [finding("grad_level", scope="generator")], {}),
    ("reward-scale", [finding("reward_scale", scope="critic")], {"gamma": "0.99"}),
    ("reward-scale", [finding("tiny_rewards")], {"gamma": "0.99"}),
    ("policy-update-too-large", [finding("policy_shift"), finding("entropy_collapse")], {}),
    ("entropy-collapse", [finding("entropy_collapse")], {"ent_coef": "0"}),
    (
        "policy-update-too-large",
        [finding("saturated_units", C)],
        {"clip_coef": "0.4", "gamma": "0.97", "lr": "0.02", "optimizer": "Adam"},
    ),
    (
        "bootstrap-divergence",
        [finding("grad_explosion", C)],
        {"gamma": "0.99", "buffer": "5000"},
    ),
    ("value-function-failure", [finding("explained_variance")], {}),
    ("frozen-weights", [finding("idle_weights", kind="lr"), finding("plateau")], {"lr": "0.1"}),
    ("frozen-weights", [finding("rate_gone", kind="lr"), finding("plateau")], {"lr": "0.1"}),
    ("not-learning", [finding("flat_validation")], {}),
    ("posterior-collapse", [finding("posterior_collapse"), finding("plateau")], {"beta": "1"}),
    ("vanishing-gradient", [finding("vanishing_gradient"), finding("plateau")], {}),
    ("dead-units", [finding("dead_units", C), finding("plateau")], {}),
    ("saturated-units", [finding("saturated_units")], {"activation": "tanh"}),
    ("not-learning", [finding("plateau")], {}),
    ("not-learning", [finding("above_chance", evidence=(STANDS,))], {}),
    ("logit-growth", [finding("above_chance")], {}),
    ("stall", [finding("stall")], {}),
    ("gan-collapse", [finding("adversary")], {}),
    ("gan-divergence", [growth(scope="generator")], {}),
    ("bootstrap-divergence", [growth(scope="critic")], {"gamma": "0.97"}),
    ("overfitting", [finding("validation_loss")], {}),
    ("no-gradient", [finding("unreached", onset_step=8), finding("plateau")], {}),
    (
        "gradients-not-cleared",
        [finding("kept_gradients", step=9), growth(), finding("skip_streak", C)],
        {},
    ),
    ("dead-units", [finding("unreached", onset_step=300)], {}),
    ("dead-units", [finding("unreached", onset_step=8), finding("dead_units")], {}),
    ("stale-evaluation", [finding("stale_evaluation")], {}),
    ("hollow-loss", [finding("hollow_loss")], {}),
    ("frozen-weights", [finding("undone")], {}),
    ("divergence", [finding("joint_rise")], {}),
    ("gan-divergence", [finding("joint_rise", scope="generator")], {}),
    ("bootstrap-divergence", [finding("joint_rise")], {"gamma": "0.97"}),
    ("batchnorm-drift", [finding("validation_loss", evidence=(MOVED,))], {}),
    ("batchnorm-drift", [finding("validation_loss", evidence=(UNFIT,))], {}),
    ("exploding-gradient", [LEAPT], {}),  # no step of an optimizer is that long
    ("exploding-gradient", [climb(300), finding("nonfinite", C, step=501)], {}),
    ("nonfinite-gradient", [climb(500), finding("nonfinite", C, kind="grad_norm", step=501)], {}),
    ("loss-spike", [growth(), finding("joint_rise")], {"betas": "(0.999, 0.9)"}),
    ("learning-rate-too-high", [finding("surge", onset_step=490, evidence=(ROSE,))], {}),
    ("all-updates-skipped", [growth(), finding("skip_streak", W, evidence=(SKIPS,))], {}),
    ("gan-divergence", [growth()], {"reversal": "6.0"}),
    ("loss-spike", [BLUE, climb(500)], {}),  # a batch
    ("half-precision-overflow", [finding("nonfinite", C, kind="loss")], {"wire": "float16"}),
    (
        "half-precision-overflow",
        [finding("nonfinite", C, kind="loss")],
        {"weights_dtype": "float16"},
    ),
    (
        "nonfinite-loss",
        [finding("nonfinite", C, kind="loss")],
        {"amp": "False", "amp_dtype": "float16"},
    ),
    ("exploding-gradient", [growth()], {"exemplars": "0", "rehearsal": "False"}),
    ("exploding-gradient", [growth()], {"gradient_penalty": "True", "n_critic": "0"}),
    ("replay-corruption", [growth()], {"rehearsed": "64"}),
    ("exploding-gradient", [finding("surge")], {"timesteps": "60"}),
    ("learning-rate-too-high", [finding("nonfinite", C, kind="loss")], {"optimizer": "LBFGS"}),
    ("learning-rate-too-high", [LEAPT], {"optimizer": "LBFGS", "line_search_fn": "None"}),
    (
        "nonfinite-loss",
        [finding("nonfinite", C, kind="loss")],
        {"optimizer": "LBFGS", "line_search_fn": "strong_wolfe"},
    ),
    # labels that are all ignored; the gradient has no more to say than the loss before it
    ("nonfinite-loss", [went("param_norm"), went("loss"), went("grad_norm")], LSTM),
    ("exploding-gradient", [went("loss", step=301), went("grad_norm", "Infinity")], LSTM),
    ("exploding-gradient", [went("loss", "Infinity"), went("grad_norm")], LSTM),
    ("exploding-gradient", [finding("surge", onset_step=290), went("loss")], LSTM),
    ("exploding-gradient", [finding("grad_spike", Severity.NOTICE), went("loss")], LSTM),
    (
        "nonfinite-loss",  # a scaler skipped one update long before
        [finding("nonfinite", Severity.NOTICE, kind="grad_norm", onset_step=90), went("loss")],
        LSTM,
    ),
    ("exploding-gradient", [went("loss", step=6)], LSTM),  # nothing could be seen before it
    ("exploding-gradient", [went("loss")], {"horizon": "40"}),  # states without a bound
    ("exploding-gradient", [went("loss", layer="mixer.dt_proj.weight")], {"recurrent": "1"}),
    ("unnamed", [finding("a_rule_of_tomorrow")], {}),
]


@pytest.mark.parametrize(("name", "findings", "facts"), CASES)
def test_cause_is_named(name: str, findings: list[Finding], facts: dict[str, str]) -> None:
    assert diagnose(findings, facts).syndrome == name


def test_every_syndrome_is_tested() -> None:
    assert {s.name for s in SYNDROMES} == {name for name, _, _ in CASES} - {"unnamed"}


@pytest.mark.parametrize(("name", "findings", "facts"), CASES)
def test_every_case_can_be_acted_on(
    name: str, findings: list[Finding], facts: dict[str, str]
) -> None:
    found = diagnose(findings, facts)
    offered = commands(found)
    still = {syndrome.name for syndrome in STANDSTILLS}
    if name in still or findings[0].rule == "unreached":
        assert "stop" in offered  # a lower rate is no help to what does not move
    else:
        assert offered["scale_lr"].args["factor"] == 0.1
    assert "checkpoint" in offered
    assert 0.1 <= found.confidence <= 0.97
    assert len(found.title) <= 80
    words = " ".join([found.title, found.what, found.why, *(s.text for s in found.suggestions)])
    assert "anomaly detected" not in words.lower() and "!" not in words
    if name != "unnamed":
        assert found.evidence_for and found.why
        # what treats the cause comes before what only masks it
        assert found.suggestions[0].treats == "cause"


def test_rollout_gets_the_missing_flag() -> None:
    found = diagnose([growth("clip 1"), saturated(), finding("skip_streak", C)], LONG)
    assert found.suggestions[0].copy == "--bptt-window 32"
    assert commands(found)["stop"].args == {"checkpoint": True}
    assert "300" in commands(found)["stop"].text
    assert found.title == "skip_streak 7"
    assert "Waiting will not recover it" in found.forecast
    assert any("256 time steps" in line for line in found.evidence_for)


def test_truncated_rollout_is_not_told_to_truncate() -> None:
    facts = LONG | {"bptt_window": "32"}
    found = diagnose([growth()], facts)
    assert not any("bptt" in copy for copy in copies(found))


def test_reward_scale_brings_rewards_to_about_one() -> None:
    facts = {"gamma": "0.99", "tau": "0.01", "max_grad_norm": "5.0", "reward_scale": "1.0"}
    found = diagnose([saturated(C, "2.2e+06"), q("2.2e+06")], facts)
    assert copies(found)[:3] == ["reward_scale: 1e-06", "tau: 0.005", "--max-grad-norm 1"]
    assert "Largest |reward| seen is 2.2e+06." in found.evidence_for


def test_reward_scale_multiplies_what_is_already_set() -> None:
    facts = {"gamma": "0.99", "algo.reward_scale": "0.1"}
    assert copies(diagnose([q("500")], facts))[0] == "reward_scale: 0.001"


def test_unclipped_recurrent_net_is_told_to_clip_and_start_orthogonal() -> None:
    facts = {"nanwatch": "0.1.0", "recurrent": "1", "lr": "1e-3"}
    found = diagnose([growth(layer="gru.weight_hh_l0")], facts)
    assert found.suggestions[0].copy.endswith("clip_grad_norm_(model.parameters(), 1)")
    assert any("orthogonal_" in copy for copy in copies(found))
    assert "0.001 → 0.0001" in commands(found)["scale_lr"].text
    assert "Gradients are not clipped." in found.evidence_for


@pytest.mark.parametrize(
    ("layer", "recurrent"),
    [
        ("gru.weight_hh_l0", True),
        ("cell.weight_hh", True),
        ("blocks.0.mamba.A_log", True),
        ("layers4.weight", False),
        ("congruence.weight", False),
    ],
)
def test_recurrent_layers_are_known_by_name(layer: str, recurrent: bool) -> None:
    evidence = Evidence(label="Layer", value="7", kind="grad_norm_layer", layer=layer)
    found = diagnose([growth(evidence=(evidence,))], {})
    assert any("recurrent" in line for line in found.evidence_for) == recurrent


def test_a_clip_in_use_is_evidence_against() -> None:
    assert diagnose([growth("clip 1")], {}).evidence_against
    assert not diagnose([growth()], {}).evidence_against


def test_other_findings_are_told_with_their_onset() -> None:
    found = diagnose([growth("clip 1", title="Norm 41"), saturated()], {})
    assert "Also: Norm 41 (since step 300)" in found.what


@pytest.mark.parametrize(("onset", "back"), [(1, False), (300, True)])
def test_one_can_go_back_only_to_before_the_trouble(onset: int, back: bool) -> None:
    for findings in ([growth(onset_step=onset)], [finding("validation_loss", onset_step=onset)]):
        tries = " ".join(one.text for one in diagnose(findings, {}).suggestions)
        assert ("before step" in tries) is back
        assert ("began with" in tries or "Begin anew" in tries) is not back


def test_calls_in_the_wrong_order_are_put_right() -> None:
    cleared = Evidence(label=labels.CLEARED_EARLY, value="12", kind="update_norm")
    (first, *_) = diagnose([finding("idle_weights", evidence=(cleared,))], {}).suggestions
    assert first.copy is not None and first.copy.endswith("loss.backward()\noptimizer.step()")


def test_forecast_counts_doublings_to_overflow() -> None:
    found = diagnose([growth(norm="4096")], {})
    left = steps_left(4096, 20, 3.4e38)
    assert left == pytest.approx(20 * 116, rel=0.01)
    assert found.forecast.startswith("fp32 overflow in about 2300 steps")
    half = diagnose([growth(norm="4096")], {"mixed_precision": "fp16"})
    assert half.forecast.startswith("fp16 overflow in about 80 steps")
    squared = diagnose([q("1")], {})
    assert "squared error" in squared.forecast


def test_no_forecast_once_it_has_happened() -> None:
    assert not diagnose([growth(), finding("nonfinite", C, kind="loss")], {}).forecast


def test_cleared_findings_do_not_speak() -> None:
    over = growth(cleared=True, title="Norm calm")
    found = diagnose([growth(title="Norm 41"), over, q("1")], {"gamma": "0.9"})
    assert not any("calm" in line for line in found.evidence_for)
