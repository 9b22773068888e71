"""Folds, restarts and clients: optimizers that come one after the other, and come back."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sdk.watched import Watched

Watch = Callable[..., Watched]


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def attempt(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()


def unseen_attempt(models: list[nn.Sequential], place: int, optimizer: Any) -> None:
    """No variable of a running frame holds the model."""
    optimizer.zero_grad()
    models[place](torch.ones(2, 4)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("again", ["same model", "other models"])
@pytest.mark.parametrize("scheduled", [False, True])
def test_many_optimizers_one_after_the_other_lose_no_attempt(
    watched: Watch, monkeypatch: pytest.MonkeyPatch, again: str, scheduled: bool
) -> None:
    """Scans for names may take one per cent; what the frames hold names them in between. A
    scheduler keeps its optimizer alive in a cycle, which nobody collects here."""
    monkeypatch.setattr("nanwatch.probes.observer.NAMING_PAUSE", 1e6)  # no scan after the eighth
    seen = watched()
    model = mlp()
    gc.disable()
    try:
        for fold in range(12):
            if again == "other models":
                model = nn.Sequential(nn.Linear(4, 3 + fold), nn.Tanh(), nn.Linear(3 + fold, 1))
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5) if scheduled else None
            for _ in range(60):
                attempt(model, optimizer)
                if scheduler is not None:
                    scheduler.step()
    finally:
        gc.enable()
    seen.read()
    steps = [step for step, _ in seen.series("loss")]
    assert steps == list(range(1, 12 * 60 + 1))
    assert all(len(seen.series("grad_norm_layer", layer=name)) >= 12 for name in ("0", "2"))


def test_a_model_that_no_frame_holds_waits_for_the_next_scan(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanwatch.probes.observer.NAMINGS_FREE", 1)
    monkeypatch.setattr("nanwatch.probes.observer.NAMING_PAUSE", 1e6)
    seen = watched()
    hidden = [mlp(), mlp(1)]  # in a list: no variable holds a module
    for place in range(2):
        optimizer = torch.optim.SGD(hidden[place].parameters(), lr=1e-3)
        for _ in range(8):
            unseen_attempt(hidden, place, optimizer)
    assert [step for step, _ in seen.read().series("loss")] == list(range(1, 9))
    seen.run.observer._name_after = 0.0  # the pause is over
    for _ in range(8):
        unseen_attempt(hidden, 1, optimizer)
    assert len(seen.read().series("loss")) == 16


def test_an_optimizer_that_was_taken_for_gone_comes_back(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clients that are trained in turn by a function whose variable is called the same."""
    monkeypatch.setattr("nanwatch.probes.observer.NAMINGS_FREE", 1)
    monkeypatch.setattr("nanwatch.probes.observer.NAMING_PAUSE", 1e6)
    monkeypatch.setattr("nanwatch.probes.observer.CHEAP_PAUSE", 0)
    seen = watched()
    models, averages = [mlp(0), mlp(1)], [mlp(9)]  # what only lists hold is found by scans
    optimizers = [torch.optim.SGD(models[0].parameters(), lr=1e-3)]

    def train(place: int) -> None:
        model, optimizer = models[place], optimizers[place]
        for _ in range(10):
            attempt(model, optimizer)

    train(0)
    optimizers.append(torch.optim.SGD(models[1].parameters(), lr=1e-3))
    for place in (1, 0, 1, 0, 1):
        train(place)
    seen.read()
    scopes = {scope for kind, scope, _ in seen.points if kind == "loss"}
    found = sum(len(seen.series("loss", scope)) for scope in scopes)
    assert found >= 58  # of 60; the first of one that comes back may be seen at its step only
    assert len([mark for mark in seen.marks if mark.what == "fit"]) <= 2  # no seesaw
    roots = {id(ref()) for ref in seen.run.observer.registry.roots.values()}
    assert id(averages[0]) in roots  # cheap looks do not forget it


def test_short_names_of_optimizers_give_way_to_those_of_their_modules(watched: Watch) -> None:
    seen = watched()
    generator, discriminator = nn.Linear(2, 2), nn.Linear(2, 1)
    opt_g = torch.optim.SGD(generator.parameters(), 0.1)
    od = torch.optim.SGD(discriminator.parameters(), 0.1)
    q1, q2 = nn.Linear(2, 1), nn.Linear(2, 1)
    q_optimizer = torch.optim.SGD([*q1.parameters(), *q2.parameters()], 0.1)
    critic_optimizer = torch.optim.SGD((value := nn.Linear(2, 1)).parameters(), 0.1)
    for _ in range(3):
        for optimizer, loss in (
            (opt_g, generator(torch.ones(2, 2)).mean()),
            (od, discriminator(torch.ones(2, 2)).mean()),
            (q_optimizer, (q1(torch.ones(2, 2)) + q2(torch.ones(2, 2))).mean()),
            (critic_optimizer, value(torch.ones(2, 2)).mean()),
        ):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    scopes = {scope for kind, scope, _ in seen.read().points if kind == "loss"}
    assert scopes == {"generator", "discriminator", "q", "critic"}
