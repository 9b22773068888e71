"""Helpers for scripts: they repair, they count, and a run records what they repaired."""

from __future__ import annotations

import copy
import io
import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from nanwatch import guards
from nanwatch.probes.attempts import APPLIED, HELD
from sdk.watched import Watched

Watch = Callable[..., Watched]


def counted(name: str) -> int:
    return guards.counts().get(name, 0)


def test_sanitize_repairs_and_counts_without_a_run() -> None:
    before = counted("logits")
    tensor = torch.tensor([1.0, math.nan, math.inf, -math.inf, 99.0])
    clean = guards.sanitize(tensor, limit=10.0, name="logits")
    assert clean.tolist() == [1.0, 0.0, 10.0, -10.0, 10.0]
    assert counted("logits") == before + 4
    assert guards.sanitize(tensor, limit=10.0, nan=1e6)[1] == 1e6  # a penalty, as in incident 001
    assert guards.sanitize(tensor).isfinite().all()
    whole = torch.tensor([1, 2])
    assert guards.sanitize(whole) is whole
    with pytest.raises(ValueError, match="above 0"):
        guards.sanitize(tensor, limit=0.0)


def test_sanitize_keeps_bits_and_stops_gradients_where_it_repaired() -> None:
    fine = torch.randn(100)
    assert torch.equal(guards.sanitize(fine, limit=100.0), fine)
    values = torch.tensor([2.0, math.nan, 50.0], requires_grad=True)
    guards.sanitize(values, limit=10.0).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [1.0, 0.0, 0.0]


class Transition(NamedTuple):
    obs: Any
    reward: Any


def test_finite_rows_of_every_kind_of_batch() -> None:
    obs = torch.arange(12.0).reshape(4, 3)
    reward = torch.tensor([0.0, math.nan, 1.0, 2.0])
    index = torch.arange(4)
    obs[3, 1] = math.inf
    before = counted("replay")
    batch = {"obs": obs, "next": [reward, index]}
    kept = guards.finite_rows(batch, name="replay")
    assert kept["obs"].tolist() == obs[[0, 2]].tolist()
    assert kept["next"][0].tolist() == [0.0, 1.0] and kept["next"][1].tolist() == [0, 2]  # type: ignore
    assert counted("replay") == before + 2
    assert guards.finite_rows(kept, name="replay") is kept
    named = guards.finite_rows(Transition(obs.numpy(), reward.numpy()))
    assert isinstance(named, Transition) and named.obs.shape == (2, 3)
    mixed = guards.finite_rows((obs, reward.numpy()))
    assert isinstance(mixed[1], np.ndarray) and len(mixed[0]) == len(mixed[1]) == 2
    with pytest.raises(ValueError, match="first dimension"):
        guards.finite_rows((obs, torch.zeros(5)))
    assert guards.is_finite((obs[0], reward[0])) and not guards.is_finite({"r": reward})


def test_skip_nonfinite_without_a_run(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)

    def step(factor: float) -> None:
        optimizer.zero_grad()
        (model(torch.ones(2, 3)).sum() * factor).backward()
        optimizer.step()

    with guards.skip_nonfinite(optimizer, streak_limit=3) as guard:
        step(1.0)
        before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        with caplog.at_level(logging.WARNING, "nanwatch"):
            for _ in range(3):
                step(math.nan)
        assert "held 3 updates in a row" in caplog.text
        after = (model.state_dict(), optimizer.state_dict())
        assert str(before) == str(after) and model.weight.grad is not None
        assert (guard.skipped, guard.streak) == (3, 3)
        step(1.0)
        assert (guard.skipped, guard.streak) == (3, 0)
    step(math.nan)
    assert model.weight.isnan().all()
    with pytest.raises(ValueError, match="streak_limit"):
        guards.skip_nonfinite(optimizer, streak_limit=0)


def test_a_run_records_what_was_repaired(watched: Watch) -> None:
    seen = watched()
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    guards.skip_nonfinite(optimizer)
    for n in range(5):
        optimizer.zero_grad()
        inputs = torch.ones(2, 3)
        inputs[0, 0] = math.nan if n in (1, 3) else 1.0
        loss = model(guards.sanitize(inputs, name="inputs")).sum()
        (loss * (math.inf if n == 2 else 1.0)).backward()
        optimizer.step()
    seen.read()
    assert seen.values("repaired", "", "inputs") == [0.0, 1.0, 0.0, 1.0, 0.0]
    assert seen.values("repaired", "", "skip_nonfinite") == [1.0, 0.0, 0.0]
    assert seen.values("skip_reason") == [APPLIED, APPLIED, HELD, APPLIED, APPLIED]


def test_frozen_batchnorm_survives_train_and_pickling() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
    model(torch.randn(8, 3))
    mean = model[1].running_mean.clone()  # type: ignore[union-attr]
    with guards.freeze_batchnorm(model) as frozen:
        model.train()
        model(torch.full((8, 3), math.nan))  # one bad batch would spoil the statistics for good
        assert torch.equal(model[1].running_mean, mean)  # type: ignore[arg-type]
        assert frozen.count == 1 and not model[1].training
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        again = torch.load(file, weights_only=False)
        again.train()
        again(torch.randn(8, 3))
        assert torch.equal(again[1].running_mean, mean)
    model(torch.randn(8, 3))
    assert model[1].training and not torch.equal(model[1].running_mean, mean)  # type: ignore


def test_clamp_counts() -> None:
    weight = nn.Parameter(torch.tensor([0.5, -3.0, 7.0]))
    before = counted("clamp")
    guards.clamp_([weight], 1.0)
    assert weight.tolist() == [0.5, -1.0, 1.0] and counted("clamp") == before + 2
    with pytest.raises(ValueError, match="above 0"):
        guards.clamp_(weight, -1.0)


def test_windows_of_time_stop_gradients() -> None:
    rnn = nn.GRU(3, 4, batch_first=True)
    sequence = torch.randn(2, 10, 3)
    state: Any = None
    lengths = []
    for window in guards.bptt_windows(sequence, 4):
        out, state = rnn(window, guards.detach(state))
        out.sum().backward()  # a second pass through an old graph would raise
        lengths.append(window.shape[1])
    assert lengths == [4, 4, 2]
    pairs = list(guards.bptt_windows({"x": sequence, "y": sequence[..., 0]}, 5))
    assert [pair["y"].shape for pair in pairs] == [(2, 5), (2, 5)]


def test_a_rollout_is_cut_every_so_many_steps() -> None:
    def gradient(steps: int) -> float:
        weight = torch.tensor(2.0, requires_grad=True)
        cut, state = guards.TruncatedBPTT(steps), torch.tensor(1.0)
        for _ in range(8):
            state = cut(state * weight)
            state = state / state.detach() if state.requires_grad else state / state
        if state.requires_grad:
            state.backward()
        return 0.0 if weight.grad is None else weight.grad.item()

    assert gradient(100) == pytest.approx(8 / 2)  # d log(w^8) / dw
    assert gradient(5) == pytest.approx(3 / 2)  # only the steps since the last cut
    with pytest.raises(ValueError, match="above 0"):
        guards.TruncatedBPTT(0)
