"""What is suggested: every fix of the five incident reports, of code that runs, and never a clip
looser than the one that did not suffice."""

from __future__ import annotations

import ast
import math
import re

import pytest
import torch
from torch import nn

from nanwatch_server.diagnose import remedies as do
from nanwatch_server.diagnose.case import Case
from nanwatch_server.diagnose.config_lint import lint
from nanwatch_server.diagnose.syndromes import diagnose
from nanwatch_server.domain.models import Diagnosis, Evidence, Finding
from tests.server.diagnose.test_syndromes import (
    CASES,
    LONG,
    C,
    commands,
    copies,
    finding,
    growth,
    q,
    saturated,
    went,
)

A_LOG = growth(layer="backbone.mixer.A_log")
GRU = growth(layer="gru.weight_hh_l0")

INCIDENTS: dict[str, tuple[list[Finding], dict[str, str], list[tuple[str, str]]]] = {
    "000 carrier": (
        [GRU],
        {"recurrent": "1", "lr": "2.5e-4", "max_gradient_norm": "None", "timesteps": "60"},
        [
            ("cause", r"--max-gradient-norm 1"),
            ("cause", r"weight_hh.*orthogonal_"),
            ("cause", r"xavier_normal_.*zeros_"),
            ("cause", r"LSTM instead of a plain RNN.*transformer"),
            ("cause", r"[Ss]horter sequences \(60 → 30\)"),
            ("cause", r"set_detect_anomaly"),
            ("symptom", r"nan_to_num.*sanitize\(state, 10\)"),
            ("symptom", r"skip_nonfinite"),
        ],
    ),
    "001 mamba": (
        [A_LOG, went("loss")],
        {"recurrent": "1", "lr": "1e-4", "gradient_clip_val": "None"},
        [
            ("cause", r"at 1 before each optimizer step, at 0\.5 if.*--gradient-clip-val 1"),
            ("cause", r"--lr 1e-05"),
            ("cause", r"warm-up.*LinearLR\(.*SequentialLR\("),
            ("cause", r"LayerNorm"),
            ("cause", r"A = -exp\(A_log\).*softplus"),
            ("symptom", r"nan_to_num: 0 .*1e6 for a loss.*clamp"),
        ],
    ),
    "002 policy": (
        [saturated(C, "2.2e+06"), q("2.2e+06"), went("loss")],
        {"gamma": "0.99", "tau": "0.01", "max_grad_norm": "5.0", "learning_rate": "3e-4"},
        [
            ("cause", r"reward_scale: 1e-06"),
            ("cause", r"tau: 0\.005"),
            ("cause", r"--learning-rate 3e-05"),
            ("symptom", r"--max-grad-norm 1"),
            ("symptom", r"[Gg]o back to a checkpoint from before.*torch\.load"),
            ("symptom", r"Stop the run and go back"),
            ("symptom", r"isfinite\(context\).*zeros_like"),
        ],
    ),
    "003 rollout": (
        [growth("clip 1"), saturated(), finding("skip_streak", C)],
        LONG,
        [
            ("cause", r"--bptt-window 32"),
            ("cause", r"names the layer that comes first"),
            ("symptom", r"sanitize"),
        ],
    ),
    "004 replay": (
        [growth(), went("loss")],
        {"buffer_size": "500", "alpha": "0.3", "lr": "0.01", "mixed_precision": "1"},
        [
            ("cause", r"clip_grad_norm_\(model\.parameters\(\), 1\)"),
            ("cause", r"--mixed-precision 0"),
            ("cause", r"--lr 0\.005"),
            ("cause", r"after each task.*math\.cos.*max\(0\.1"),
            ("symptom", r"1e-4.*weight_decay: 0\.0001"),
            ("cause", r"freeze_batchnorm"),
            ("cause", r"clamp\(-10, 10\)"),
            ("cause", r"inputs or labels are not finite.*continue"),
            ("cause", r"torch\.no_grad\(\)"),
            ("symptom", r"--alpha 0\.15"),
            ("symptom", r"classifier\.weight, 0, 0\.01"),
        ],
    ),
}


@pytest.mark.parametrize("incident", INCIDENTS)
def test_every_fix_of_a_report_is_suggested(incident: str) -> None:
    findings, facts, fixes = INCIDENTS[incident]
    told = [(s.treats, f"{s.text} {s.copy}") for s in diagnose(findings, facts).suggestions]
    for treats, words in fixes:
        hits = [t for t, text in told if re.search(words, text, re.DOTALL)]
        assert hits == [treats] * len(hits) and hits, (words, told)


def all_cases() -> list[Diagnosis]:
    return [diagnose(findings, facts) for _, findings, facts in CASES]


def test_every_suggestion_is_exact() -> None:
    for found in all_cases():
        for one in found.suggestions:
            assert one.copy or one.command, (found.syndrome, one.text)
            for line in [one.copy] if one.copy else []:
                setting = re.fullmatch(r"--[a-z0-9-]+ \S+|[\w.]+: \S+|py-spy dump .*", line)
                assert setting or ast.parse(f"{line}\n    pass" if line.endswith(":") else line)


def test_nothing_is_suggested_twice() -> None:
    for found in all_cases():
        texts = [one.text for one in found.suggestions]
        assert len(texts) == len(set(texts)), found.syndrome


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4)
        self.classifier = nn.Linear(4, 2)


def run(copy: str, **more: object) -> dict[str, object]:
    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    steps = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    named = {"torch": torch, "model": model, "optimizer": optimizer, "scheduler": steps} | more
    exec(compile(copy, "copy", "exec"), named)  # noqa: S102
    return named


def test_copied_starts_do_what_they_say() -> None:
    torch.manual_seed(0)
    case = Case((GRU,), {"recurrent": "1"})
    model = run(do.steady_state(case).copy)["model"]
    for gate in model.gru.weight_hh_l0.detach().split(4):  # type: ignore[attr-defined]
        torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-5, rtol=0)
    model = run(do.start_layers(case).copy)["model"]
    assert not model.classifier.bias.any()  # type: ignore[attr-defined]
    model = run(do.reset_head(case).copy)["model"]
    assert model.classifier.weight.abs().max() < 0.1  # type: ignore[attr-defined]


def test_copied_warm_up_warms_up() -> None:
    named = run(do.warm_up(Case((), {})).copy)
    optimizer, steps = named["optimizer"], named["scheduler"]
    rates = []
    for _ in range(600):
        rates.append(optimizer.param_groups[0]["lr"])  # type: ignore[attr-defined]
        optimizer.step()  # type: ignore[attr-defined]
        steps.step()  # type: ignore[attr-defined]
    assert rates[0] == pytest.approx(0.01) and rates[250] == pytest.approx(0.055)
    assert rates[-1] == pytest.approx(0.1)


def test_copied_code_of_each_kind_runs() -> None:
    none = Case((), {})
    pair = torch.randn(2, 5, 8)
    normed = run(do.qk_norm(none).copy, q=pair, k=pair, F=nn.functional)["q"]
    assert normed.std(-1).max() < 1.2  # type: ignore[attr-defined]
    player = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    run(do.weaker_discriminator(none).copy, discriminator=player)
    player(torch.randn(16, 3))
    assert torch.linalg.matrix_norm(player[0].weight, 2) < 2
    scan = run(do.steady_state(Case((A_LOG,), {})).copy, F=nn.functional,
               A_log=torch.randn(3), dt_raw=torch.randn(3) * 50)  # fmt: skip
    assert (scan["A"] < 0).all() and (scan["dt"] <= 0.1).all()  # type: ignore[operator]
    run(do.replace_recurrence(none).copy)
    run(do.line_search(none).copy)
    rate = run(do.decay_per_task(Case((), {"lr": "0.01"})).copy, task=9, tasks=10, math=math)
    assert rate["optimizer"].param_groups[0]["lr"] == pytest.approx(0.001)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("layer", "orthogonal", "below_zero"),
    [("gru.weight_hh_l0", True, False), ("mamba.A_log", False, True), ("block.core", True, True)],
)
def test_the_start_fits_the_kind_of_model(layer: str, orthogonal: bool, below_zero: bool) -> None:
    text = " ".join(copies(diagnose([growth(layer=layer)], {"recurrent": "1"})))
    assert ("weight_hh" in text, "A_log" in text) == (orthogonal, below_zero)


def clips(facts: dict[str, str], limit: str = "no clip") -> tuple[Diagnosis, list[str]]:
    found = diagnose([growth(limit)], facts)
    tries = [s for s in found.suggestions if "Clip" in s.text]
    return found, [f"{s.copy}, {s.treats}" for s in tries]


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({"max_grad_norm": "0.5"}, "--max-grad-norm 0.25, symptom"),
        ({"max_grad_norm": "10"}, "--max-grad-norm 1, symptom"),
        ({"trainer.gradient_clip": "1.0"}, "--gradient-clip 0.5, symptom"),
        ({"max_grad_norm": "0.0"}, "--max-grad-norm 1, cause"),
        ({"max_gradient_norm": "None"}, "--max-gradient-norm 1, cause"),
        ({"is_world_process_zero": "True"}, "--max-grad-norm 0.5, symptom"),
        (
            {"clip": "0.2", "gae_lambda": "0.95"},  # of PPO's ratio
            "torch.nn.utils.clip_grad_norm_(model.parameters(), 1), cause",
        ),
    ],
)
def test_a_clip_is_never_loosened(facts: dict[str, str], wanted: str) -> None:
    found, tries = clips(facts)
    assert tries == [wanted]
    in_force = "symptom" in wanted
    assert any("clip of" in line for line in found.evidence_against) is in_force
    assert not (in_force and "Gradients are not clipped." in found.evidence_for)


def test_a_clip_in_the_data_counts_more_than_the_configuration() -> None:
    assert clips({"max_grad_norm": "10"}, "clip 0.4")[1] == ["--max-grad-norm 0.2, symptom"]


def test_a_log_without_a_clip_does_not_say_that_there_is_none() -> None:
    for facts, sure in (({}, False), ({"nanwatch": "0.1.0"}, True), ({"clip": "0"}, True)):
        found, _ = clips(facts)
        assert ("Gradients are not clipped." in found.evidence_for) is sure


def test_a_clip_that_never_was_seen_at_work_is_asked_after() -> None:
    found, _ = clips({"nanwatch": "0.1.0", "max_grad_norm": "0.5"})
    assert any("None was seen at work" in line for line in found.evidence_against)


def test_quasi_newton_gets_its_line_search_first() -> None:
    found = diagnose([went("loss")], {"optimizer": "LBFGS", "lr": "1.0"})
    (first, second, *_) = found.suggestions
    assert 'line_search_fn="strong_wolfe"' in first.copy and first.treats == "cause"
    assert second.copy == "--lr 0.1" and "scale_lr" in commands(found)


def test_what_masks_comes_last_and_says_so() -> None:
    for _, findings, facts in CASES:
        tries = diagnose(findings, facts).suggestions
        masks = [at for at, one in enumerate(tries) if "nan_to_num" in one.copy + one.text
                 and "hides" in one.text]  # fmt: skip
        assert all(tries[at].treats == "symptom" and at == len(tries) - 1 for at in masks)


def test_evidence_that_names_infinity_in_a_layer_is_no_infinite_loss() -> None:
    layer = Evidence(label="Layer", value="inflow.weight", kind="grad_norm_layer")
    one = went("loss")
    bad = finding("nonfinite", C, kind="loss", step=300, evidence=(*one.evidence, layer))
    assert diagnose([bad], {"recurrent": "1"}).syndrome == "nonfinite-loss"


def test_what_the_first_steps_tell_of_a_model_was_so_from_the_start() -> None:
    facts = {"recurrent": "1", "max_gradient_norm": "None"}
    for told_at, step in ((1, 0), (500, 500)):
        (remark,) = lint("0" * 32, facts, told_at, 0.0)
        assert (remark.layer, remark.step) == ("clip_grad", step)
