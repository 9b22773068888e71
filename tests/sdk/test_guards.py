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
from nanwatch.guards import values as guarded_values
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


# --- what they take ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_sanitize_repairs_arrays_as_tensors(dtype: Any) -> None:
    before = counted("arrays")
    array = np.array([[1.0, math.nan, -0.0], [math.inf, -math.inf, 99.0]], dtype=dtype)
    array.flags.writeable = False
    clean = guards.sanitize(array, limit=10.0, name="arrays")
    assert clean.dtype == dtype and clean.tolist() == [[1.0, 0.0, -0.0], [10.0, -10.0, 10.0]]
    assert counted("arrays") == before + 4
    assert guards.sanitize(array, limit=10.0, nan=1e3)[0, 1] == 1e3
    assert guards.sanitize(array)[1, 0] == np.finfo(dtype).max
    assert np.isnan(array[0, 1]), "the array of the caller is its own"
    scalar = guards.sanitize(array[0, 1])
    assert type(scalar) is type(array[0, 1]) and scalar == 0
    flat = guards.sanitize(np.array(math.nan))
    assert isinstance(flat, np.ndarray) and flat.shape == ()


def test_sanitize_repairs_numbers_and_what_holds_them() -> None:
    before = counted("held")
    batch = {"obs": torch.tensor([math.nan]), "reward": math.nan, "next": [np.ones(2), None, 3]}
    clean: Any = guards.sanitize(batch, name="held")
    assert clean["obs"].tolist() == [0.0] and clean["reward"] == 0.0
    assert clean["next"][0].tolist() == [1, 1] and clean["next"][1:] == [None, 3]
    assert counted("held") == before + 2 and math.isnan(batch["reward"])  # type: ignore[arg-type]
    assert guards.sanitize(Transition([1.0, math.inf], 2.0), 5.0) == Transition([1.0, 5.0], 2.0)
    assert guards.sanitize(-math.inf, 5) == -5.0 and guards.sanitize(math.nan, 5, nan=9.0) == 9.0


def test_clamp_takes_arrays_and_whole_numbers() -> None:
    before = counted("clamp")
    array, whole = np.array([0.5, -3.0, math.nan]), np.array([1, -9], dtype=np.int8)
    state = {"w": torch.tensor([1, 200]), "u": torch.tensor([200], dtype=torch.uint8)}
    guards.clamp_([array, whole], 2.5)
    guards.clamp_(state, 1e9)
    assert array.tolist()[:2] == [0.5, -2.5] and math.isnan(array[2]) and whole.tolist() == [1, -2]
    assert state["w"].tolist() == [1, 200] and state["u"].tolist() == [200]
    guards.clamp_(iter(state.values()), 2.5)
    assert state["w"].tolist() == [1, 2] and state["u"].tolist() == [2]
    assert counted("clamp") == before + 4


def test_plain_numbers_of_a_transition_are_looked_at() -> None:
    assert guards.is_finite(1.0) and guards.is_finite((torch.ones(2), 3, 0.5, None, True))
    assert not guards.is_finite((torch.ones(2), math.nan)) and not guards.is_finite(math.inf)
    assert guards.is_finite(10**400) and guards.is_finite(torch.tensor([1, 2]))
    sparse = torch.tensor([[0.0, math.nan]]).to_sparse()
    assert not guards.is_finite(sparse)


@pytest.mark.parametrize(
    "empty", [torch.empty(0), torch.empty(0, 3), np.empty((0, 3)), {"x": torch.empty(0, 2)}]
)
def test_what_is_empty_comes_back(empty: Any) -> None:
    assert guards.finite_rows(empty) is empty and guards.is_finite(empty)
    assert list(guards.bptt_windows(empty, 4, dim=0)) == []
    assert type(guards.sanitize(empty, 1.0)) is type(empty)
    guards.clamp_(empty, 1.0)


def test_windows_of_arrays() -> None:
    array = np.arange(12).reshape(2, 6)
    assert [part.shape for part in guards.bptt_windows(array, 4)] == [(2, 4), (2, 2)]
    assert [part.tolist() for part in guards.bptt_windows(array[0], 4, dim=-1)] == [
        [0, 1, 2, 3],
        [4, 5],
    ]
    both = {"x": torch.zeros(2, 6), "y": array}
    assert [p["y"][0, 0] for p in guards.bptt_windows(both, 3)] == [0, 3]


@pytest.mark.parametrize("odd", [None, "text", object(), [], nn.Linear])
def test_what_cannot_be_worked_on_is_left_alone_and_said_once(
    odd: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_values, "_left", set())
    before = guards.counts()
    with caplog.at_level(logging.WARNING, "nanwatch"):
        for _ in range(3):
            assert guards.sanitize(odd, 1.0) is odd
            assert guards.finite_rows(odd) is odd
            assert guards.is_finite(odd)
            assert list(guards.bptt_windows(odd, 4)) == [odd]
            guards.clamp_(odd, 1.0)
            assert guards.detach(odd) == odd and guards.TruncatedBPTT(1)(odd) == odd
    kind = type(odd).__name__
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 5 and all(f"got {kind}, which is left alone" in text for text in said)
    assert guards.counts() == before


@pytest.mark.parametrize(
    "odd",
    [
        torch.tensor([complex(math.nan, 0)]),
        torch.eye(2).to_sparse(),
        np.array(["x"]),
        np.array([None, 1.0], dtype=object),
    ],
)
def test_numbers_that_cannot_be_repaired_are_left_alone(odd: Any) -> None:
    assert guards.sanitize(odd, 1.0) is odd
    guards.clamp_(odd, 1.0)
    assert guards.detach(odd) is not None


def test_what_cannot_be_changed_in_place_is_left_alone() -> None:
    fixed = np.array([5.0])
    fixed.flags.writeable = False
    weight = torch.tensor([5.0])
    guards.clamp_([fixed, weight, np.float32(5), 5.0], 1.0)
    assert fixed.tolist() == [5.0] and weight.tolist() == [1.0]


def test_a_wrong_argument_is_said_at_the_call() -> None:
    for wrong in (None, torch.ones(2), 3):
        with pytest.raises(TypeError, match="expects an optimizer of torch"):
            guards.skip_nonfinite(wrong)
        with pytest.raises(TypeError, match="expects a module of torch"):
            guards.freeze_batchnorm(wrong)
    for limit in (0, -1.0, "10", math.nan, np.ones(2)):
        with pytest.raises(ValueError, match="a number above 0; got"):
            guards.sanitize(torch.ones(2), limit)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a number above 0; got"):
            guards.clamp_(torch.ones(2), limit)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a whole number above 0"):
        guards.bptt_windows(torch.ones(2, 3), 0)
    with pytest.raises(ValueError, match="with a dimension 1"):
        guards.bptt_windows(torch.ones(2), 2)
