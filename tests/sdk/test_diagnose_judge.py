"""What `diagnose` finds in sick trainings, and that it finds nothing in healthy ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nanwatch.forensics.checkpoint.judge import judge
from nanwatch.forensics.checkpoint.judge_state import rise_of, update_ratio
from sdk.checkpoints import adam, facts_of, finding, rules, save, train, verdict_of

NAN = float("nan")
INF = float("inf")


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def sequence(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A GRU that remembers; a language-like model with an embedding and an LSTM."""
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(50, 16, padding_idx=0),
            "lstm": nn.LSTM(16, 24, 2),
            "out": nn.Linear(24, 50),
        }
    )
    optimizer = adam(model)
    for _ in range(steps):
        tokens = torch.randint(1, 50, (12, 8))
        hidden, _ = model["lstm"](model["embed"](tokens))
        loss = nn.functional.cross_entropy(model["out"](hidden).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, optimizer


HEALTHY: dict[str, Callable[[], tuple[Any, Any]]] = {
    "fresh": lambda: train(steps=1),
    "short": lambda: train(steps=50),
    "long": lambda: train(steps=1500),
    "sgd": lambda: train(steps=300, make=sgd),
    "rmsprop": lambda: train(
        steps=300, make=lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3)
    ),
    "adagrad": lambda: train(
        steps=300, make=lambda m: torch.optim.Adagrad(m.parameters(), lr=1e-2)
    ),
    "amsgrad": lambda: train(
        steps=300, make=lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3, amsgrad=True)
    ),
    "no bias": lambda: train(nn.Sequential(nn.Linear(10, 64, bias=False), nn.Linear(64, 3))),
    "deep": lambda: train(
        nn.Sequential(
            *[m for _ in range(12) for m in (nn.Linear(10, 10), nn.Tanh())], nn.Linear(10, 3)
        )
    ),
    "lstm": lambda: sequence(120),
    "transformer": lambda: train(
        nn.Sequential(
            nn.Unflatten(1, (1, 10)),
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(10, 2, 32, batch_first=True),
                2,
                enable_nested_tensor=False,
            ),
            nn.Flatten(),
            nn.Linear(10, 3),
        )
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_training_gives_no_finding(tmp_path: Path, name: str) -> None:
    model, optimizer = HEALTHY[name]()
    verdict = verdict_of(save(tmp_path / "a.pt", model, optimizer))
    assert (verdict.verdict, rules(verdict)) == ("healthy", [])


def test_a_mask_of_minus_infinity_is_no_trouble(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_buffer("mask", torch.full((6, 6), -INF).triu(1))
            self.register_buffer("freqs", 2.0 ** torch.arange(24))

    assert verdict_of(save(tmp_path / "a.pt", Masked())).findings == []


def test_rows_of_an_embedding(tmp_path: Path) -> None:
    model, optimizer = sequence(5)
    with torch.no_grad():
        model["embed"].weight[[7, 31]] = NAN
    found = finding(verdict_of(save(tmp_path / "a.pt", model, optimizer)), "nonfinite-weights")
    assert found.severity == "critical"
    assert "first in order is embed.weight" in found.message
    assert "Only 2 rows of 50: 7, 31" in found.message


def test_a_backward_pass_that_went_bad_halfway(tmp_path: Path) -> None:
    """The gradient is not finite from the fourth layer back: a real step poisons what is before."""
    model = nn.Sequential(*(nn.Linear(10, 10) for _ in range(6)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    model[3].register_full_backward_pre_hook(lambda m, g: (g[0] * INF,))
    model(torch.randn(4, 10)).square().mean().backward()
    optimizer.step()
    found = finding(verdict_of(save(tmp_path / "a.pt", model, optimizer)), "nonfinite-weights")
    assert "8 of 12 weight tensors" in found.message
    assert "All up to 3.bias are bad and none after it" in found.message


def test_running_statistics(tmp_path: Path) -> None:
    """A skipped update does not protect BatchNorm: the forward pass has poisoned it already."""
    model, optimizer = train()
    model(torch.full((8, 10), NAN))
    verdict = verdict_of(save(tmp_path / "a.pt", model, optimizer))
    assert rules(verdict) == ["nonfinite-buffers"] and verdict.verdict == "critical"
    assert finding(verdict, "nonfinite-buffers").where == [
        "model: 1.running_mean",
        "model: 1.running_var",
    ]
    model, _ = train()
    model[1].running_var[3] = -0.5
    assert rules(verdict_of(save(tmp_path / "b.pt", model))) == ["negative-variance"]
    model, _ = train()
    model(torch.full((8, 10), 1e9) * torch.randn(8, 10))
    assert rules(verdict_of(save(tmp_path / "c.pt", model))) == ["huge-variance"]


def test_optimizer_state(tmp_path: Path) -> None:
    model, optimizer = train()
    for p in list(model.parameters())[:2]:
        optimizer.state[p]["exp_avg_sq"][..., 0] = INF
    verdict = verdict_of(save(tmp_path / "a.pt", model, optimizer))
    found = finding(verdict, "nonfinite-optimizer")
    assert "2 of 6 parameters (exp_avg_sq), first model: 0.weight" in found.message
    assert verdict.verdict == "critical"
    model, optimizer = train()
    optimizer.state[model[3].bias]["exp_avg_sq"].sub_(1.0)
    assert rules(verdict_of(save(tmp_path / "b.pt", model, optimizer))) == ["negative-moment"]


def test_gradients_that_exploded_stay_in_the_second_moment(tmp_path: Path) -> None:
    model, optimizer = train()
    optimizer.zero_grad()
    (1e12 * model(torch.randn(8, 10))).sum().backward()
    optimizer.step()
    verdict = verdict_of(save(tmp_path / "a.pt", model, optimizer))
    found = finding(verdict, "huge-moment")
    assert found.severity == "warning" and verdict.verdict == "suspect"
    assert "second moment" in found.message


def test_gradients_that_rise(tmp_path: Path) -> None:
    """Saved while a real loss explodes: the last ten gradients outgrow the last thousand."""
    model, optimizer = train(steps=600)
    before = facts_of(save(tmp_path / "before.pt", model, optimizer))
    assert rise_of(before.optimizers[0]) < 0.6
    x = torch.randn(32, 10)
    for step in range(60):
        optimizer.zero_grad()
        (1.4**step * model(x).mean()).backward()
        optimizer.step()
    after = facts_of(save(tmp_path / "after.pt", model, optimizer))
    assert rise_of(after.optimizers[0]) > 2.0
    assert "rising-gradient" in rules(judge(after))


def test_updates_far_too_large(tmp_path: Path) -> None:
    model, optimizer = train(steps=600, make=lambda m: torch.optim.Adam(m.parameters(), lr=1e-3))
    optimizer.param_groups[0]["lr"] = 1.0
    verdict = verdict_of(save(tmp_path / "a.pt", model, optimizer))
    assert set(rules(verdict)) == {"large-updates", "large-lr"}
    assert update_ratio(facts_of(tmp_path / "a.pt").optimizers[0]) > 0.5
    optimizer.param_groups[0]["lr"] = -1.0
    found = finding(verdict_of(save(tmp_path / "b.pt", model, optimizer)), "bad-lr")
    assert found.severity == "critical"


def test_a_layer_without_gradient(tmp_path: Path) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.dead = nn.Linear(10, 3), nn.Linear(10, 3)

        def forward(self, x: Any) -> Any:
            return self.used(x) + 0.0 * self.dead(x)

    found = finding(verdict_of(save(tmp_path / "a.pt", *train(Gated()))), "no-gradient")
    assert found.severity == "notice" and found.where == ["model: dead.weight"]


def test_loss_scale_and_counters(tmp_path: Path) -> None:
    model, optimizer = train(steps=100)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-7)
    path = save(tmp_path / "a.pt", model, optimizer, scaler=scaler.state_dict())
    assert rules(verdict_of(path)) == ["loss-scale"]
    assert verdict_of(save(tmp_path / "b.pt", model, optimizer, step=101)).findings == []
    # Four batches an update, as gradients are accumulated: nothing is missing.
    assert verdict_of(save(tmp_path / "c.pt", model, optimizer, step=400)).findings == []
    verdict = verdict_of(save(tmp_path / "d.pt", model, optimizer, step=331))
    assert (verdict.verdict, rules(verdict)) == ("healthy", ["skipped-updates"])
    assert "step 331" in verdict.findings[0].message


def test_weights_too_large(tmp_path: Path) -> None:
    model, _ = train(steps=2)
    with torch.no_grad():
        model[3].weight[0, 0] = 7e4
    found = finding(verdict_of(save(tmp_path / "a.pt", model)), "extreme-weights")
    assert found.severity == "warning" and "1 value cannot be written in fp16" in found.message
    with torch.no_grad():
        model[3].weight[0, 0] = 1e9
    verdict = verdict_of(save(tmp_path / "b.pt", model))
    assert finding(verdict, "extreme-weights").severity == "critical"


def test_a_layer_that_ran_away(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(12)))
    with torch.no_grad():
        model[5].weight.mul_(300.0)
    found = finding(verdict_of(save(tmp_path / "a.pt", model)), "outlier-layer")
    assert found.where == ["model: 5.weight"]


def test_dead_and_constant_units(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
    with torch.no_grad():
        model[0].weight[:20] = 0.0
    alive = verdict_of(save(tmp_path / "a.pt", model))
    assert alive.findings == [], "with a bias the units still give something out"
    with torch.no_grad():
        model[0].bias[:20] = 0.0
    found = finding(verdict_of(save(tmp_path / "b.pt", model)), "dead-rows")
    assert "20 of 32 rows" in found.message
    with torch.no_grad():
        model[0].weight.fill_(0.1)
        model[2].weight.zero_()
    assert rules(verdict_of(save(tmp_path / "c.pt", model))) == ["constant-weights", "zero-weights"]


def test_stored_samples(tmp_path: Path) -> None:
    model, _ = train(steps=2)
    logits = torch.randn(50, 3)
    logits[4] = NAN
    path = save(tmp_path / "a.pt", model, buffer={"x": torch.randn(50, 10), "logits": logits})
    found = finding(verdict_of(path), "nonfinite-data")
    assert found.where == ["buffer: logits"] and "finite_rows" in found.advice[0].copy


def test_recurrent_weights_explain(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.GRU(4, 16), nn.Linear(16, 1))
    with torch.no_grad():
        nn.init.orthogonal_(model[0].weight_hh_l0[:16])
        model[0].weight_hh_l0[16:32] = 3.0 * torch.eye(16)
    facts = facts_of(save(tmp_path / "a.pt", model))
    assert [r.block for r in facts.recurrent] == [0, 1, 2]
    assert facts.recurrent[0].radius == pytest.approx(1.0, rel=1e-4)
    assert facts.recurrent[1].radius == pytest.approx(3.0, rel=1e-4)
    assert facts.recurrent[1].spectral_norm == pytest.approx(3.0, rel=1e-4)
    # Trained LSTMs that work have radii up to 7: alone it is no finding, only an explanation.
    assert judge(facts).verdict == "healthy" and not judge(facts).why
    with torch.no_grad():
        model[1].weight[0, 0] = NAN
    assert "spectral radius 3" in verdict_of(save(tmp_path / "b.pt", model)).why[0]


def test_what_changed_since_an_earlier_one(tmp_path: Path) -> None:
    model, optimizer = train(steps=50)
    for p in model[0].parameters():
        p.requires_grad_(False)
    earlier = save(tmp_path / "early.pt", model, optimizer, step=50)
    first = copy.deepcopy(model[0].state_dict())
    optimizer = adam(model[3])
    train(model, steps=30, make=lambda m: optimizer)
    assert torch.equal(first["weight"], model[0].weight)
    later = save(tmp_path / "later.pt", model, optimizer, step=80)
    facts = facts_of(later, earlier)
    found = finding(judge(facts), "frozen-weights")
    assert found.severity == "notice"
    assert found.where[:2] == ["model: 0.weight", "model: 0.bias"]
    assert judge(facts).verdict == "healthy"
    changes = {c.name: c for c in facts.comparison.changes}
    assert changes["model: 3.weight"].relative > 0 == changes["model: 0.weight"].relative


@pytest.mark.parametrize("bare_first", [True, False])
def test_weights_alone_are_compared_with_a_whole_checkpoint(
    tmp_path: Path, bare_first: bool
) -> None:
    model, optimizer = train(steps=50)
    whole, bare = save(tmp_path / "whole.pt", model, optimizer, step=50), tmp_path / "bare.pt"
    torch.save(model.state_dict(), bare)
    facts = facts_of(*((bare, whole) if bare_first else (whole, bare)))
    assert facts.comparison.changes and all(not c.relative for c in facts.comparison.changes)


def test_weights_that_grew_or_froze(tmp_path: Path) -> None:
    model, optimizer = train(steps=50)
    earlier = save(tmp_path / "early.pt", model, optimizer, step=50)
    frozen = save(tmp_path / "frozen.pt", model, optimizer, step=500)
    found = finding(verdict_of(frozen, earlier), "frozen-weights")
    assert found.severity == "critical" and "although the steps went on" in found.message
    with torch.no_grad():
        model[3].weight.mul_(50.0)
    grown = save(tmp_path / "grown.pt", model, optimizer, step=60)
    found = finding(verdict_of(grown, earlier), "grown-weights")
    assert found.severity == "warning" and "grew 50-fold" in found.message
    other = save(tmp_path / "other.pt", nn.Sequential(nn.Linear(10, 32), nn.Linear(32, 9)))
    assert finding(verdict_of(other, earlier), "different-model").severity == "notice"


def test_advice_is_given_once(tmp_path: Path) -> None:
    model, optimizer = train()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(NAN)
            optimizer.state[p]["exp_avg"].fill_(NAN)
    verdict = verdict_of(save(tmp_path / "a.pt", model, optimizer))
    texts = [a.text for f in verdict.findings for a in f.advice]
    assert len(texts) == len(set(texts)) and any("--against" in a.copy for f in verdict.findings
                                                 for a in f.advice)  # fmt: skip
