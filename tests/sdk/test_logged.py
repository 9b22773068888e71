"""`run.log`: exact, in order, nothing kept that may change, every loss counted by its reason."""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import nanwatch.record
from nanwatch.record import PENDING_MAX
from sdk.watched import Watched

Watch = Callable[..., Watched]


def test_every_plain_number_arrives_bit_for_bit(watched: Watch) -> None:
    seen = watched()
    awkward = [0.1, -0.0, 5e-324, 1.7e308, math.inf, -math.inf, math.nan, 2**53, True, -3]
    for value in awkward:
        seen.run.log(value=value, other=1.0)
    found = seen.read().values("custom", layer="value")
    assert [struct.pack("<d", v) for v in found] == [struct.pack("<d", float(v)) for v in awkward]
    assert seen.values("custom", layer="other") == [1.0] * len(awkward)


def test_calls_with_common_names_stay_in_order(watched: Watch) -> None:
    """Sets of names that overlap share series: none of them may overtake another."""
    seen = watched()
    for n in range(30):
        if n % 3 == 0:
            seen.run.log(a=float(n))
        elif n % 3 == 1:
            seen.run.log({"b": float(n), "a": float(n)})
        else:
            seen.run.log(a=torch.tensor(float(n)), c=1)
    seen.read()
    assert seen.values("custom", layer="a") == [float(n) for n in range(30)]
    assert seen.values("custom", layer="b") == [float(n) for n in range(30) if n % 3 == 1]


def test_what_the_caller_changes_afterwards_changes_nothing(watched: Watch) -> None:
    seen = watched()
    values: dict[str, Any] = {"x": 1.0}
    tensor, array = torch.ones(4), np.full(4, 2.0)
    seen.run.log(values)
    seen.run.log(t=tensor, n=array)
    values["x"] = 9.0
    tensor.fill_(9.0)
    array.fill(9.0)
    seen.read()
    assert seen.values("custom", layer="x") == [1.0]
    assert seen.values("custom", layer="t") == [1.0]
    assert seen.values("custom", layer="n") == [2.0]


class Hostile:
    """A user's object that fails wherever it can."""

    def __float__(self) -> float:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")

    def __hash__(self) -> int:
        return 1


def test_what_cannot_be_kept_is_counted_and_the_rest_arrives(watched: Watch) -> None:
    seen = watched()
    seen.run.log(good=1.0, bad=Hostile(), text="high")
    seen.run.log({Hostile(): 1.0, 7: 2.0, "good": 2.0})
    seen.run.log(good=3.0, huge=10**400)
    seen.run.log(good=4.0, huge=-(10**400))
    seen.read()
    assert seen.values("custom", layer="good") == [1.0, 2.0, 3.0, 4.0]
    assert seen.values("custom", layer="7") == [2.0]
    assert seen.run.recorder.dropped == {"not a number": 4, "name is no text": 1}


def test_numpy_scalars_go_the_quick_way_and_keep_their_value(watched: Watch) -> None:
    seen = watched()
    kinds = (np.float64(0.1), np.float32(0.1), np.int64(-5), np.float16(0.5), np.bool_(True))
    for _ in range(2):
        for value in kinds:
            seen.run.log(v=value)
    assert seen.read().values("custom", layer="v") == [float(v) for v in kinds] * 2
    assert seen.run.recorder.dropped == {}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (torch.tensor(0.1, dtype=torch.float64, requires_grad=True), 0.1),
        (torch.tensor([0.1], requires_grad=True) * 1, float(np.float32(0.1))),
        (torch.tensor(2**53 - 1), 2.0**53 - 1),
        (torch.tensor(True), 1.0),
        (torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True), 0.5),
        (torch.nn.Parameter(torch.ones(3)), 1.0),
        (np.ma.array(2.0, mask=False), 2.0),
        (np.ma.array([1.0, math.nan, 3.0], mask=[False, True, False]), 2.0),
        (np.array([1.0, math.inf]), math.inf),
        (np.array([60000.0, 60000.0], dtype=np.float16), 60000.0),
        (np.ma.masked, None),
        (np.ma.array(2.0, mask=True), None),
        (np.ma.array([1.0, 2.0], mask=True), None),
        (np.complex64(1 + 2j), None),
        (np.array([1 + 2j]), None),
    ],
)
def test_no_warning_of_ours_reaches_the_user(
    watched: Watch, value: Any, number: float | None
) -> None:
    seen = watched()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as under `python -W error`
        for _ in range(2):
            seen.run.log(v=value)
        seen.run.finite("v", value)
        seen.read()
    assert seen.values("custom", layer="v") == ([] if number is None else [number] * 2)
    assert seen.run.recorder.dropped == ({} if number is not None else {"not a number": 2})


@pytest.mark.parametrize(
    "step", [-1, 2**53, 2**60, 10**30, 1.5, math.nan, math.inf, "7", None, [1], Hostile()]
)
def test_a_resume_at_what_is_no_step_is_ignored_and_said_once(
    watched: Watch, caplog: pytest.LogCaptureFixture, step: Any
) -> None:
    seen = watched()
    seen.run.resume(41)
    for _ in range(3):
        seen.run.resume(step)
    seen.run.log(v=1.0)
    assert seen.read().series("custom", layer="v") == [(41, 1.0)]
    assert [mark.text for mark in seen.marks] == ["resumed at 41"]
    (said,) = caplog.messages
    assert "expects a whole number from 0 to 2**53 - 1" in said and "ignored" in said


@pytest.mark.parametrize("step", [0, 2**53 - 1, 7.0, np.int64(7), torch.tensor(7)])
def test_a_resume_at_a_whole_number_of_any_type(
    watched: Watch, caplog: pytest.LogCaptureFixture, step: Any
) -> None:
    seen = watched()
    seen.run.resume(step)
    seen.run.log(v=1.0)
    assert seen.read().series("custom", layer="v") == [(int(step), 1.0)] and not caplog.messages


def test_two_names_for_one_series_keep_the_later_and_count_the_other(watched: Watch) -> None:
    seen = watched()
    seen.run.log({"a b": 1.0, "a_b": 2.0})
    assert seen.read().values("custom", layer="a_b") == [2.0]
    assert seen.run.recorder.dropped == {"two names for one series": 1}


def test_points_of_refused_series_are_counted(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nanwatch.record, "SERIES_PER_RUN_MAX", 5)
    seen = watched()
    for _ in range(3):
        seen.run.log({f"n{k}": float(k) for k in range(8)})
    seen.read()
    assert sum(len(points) for points in seen.points.values()) == 15
    assert seen.run.recorder.dropped == {"too many series": 9}


def test_produced_is_stored_plus_counted_when_the_queue_is_full(watched: Watch) -> None:
    seen = watched()
    calls = PENDING_MAX + 500
    for n in range(calls):
        seen.run.log(a=n, b=0.5)
    seen.read()
    stored = sum(len(points) for points in seen.points.values())
    assert stored == 2 * PENDING_MAX
    assert stored + seen.run.recorder.dropped["queue full"] == 2 * calls


def test_one_report_at_the_first_non_finite_value_of_an_episode(watched: Watch) -> None:
    seen = watched()
    for value in (1.0, math.nan, math.nan, 1.0, math.inf, 1.0):
        seen.run.log(x=value, y=1.0)
    seen.read()
    reports = [r for r in seen.reports if r.where == "logged"]
    assert len(reports) == 2 and all(r.layers == ["x"] for r in reports)


def test_finite_calls_with_a_common_series_end_no_episode_of_another(watched: Watch) -> None:
    """Every scalar of a mirrored writer comes with `global_step`."""
    seen = watched()
    for n in range(20):
        seen.run.log(accuracy=0.5, global_step=n)
        seen.run.log(reward=1.0 if n in (0, 10, 19) else math.nan, global_step=n)
        if n % 6 == 5:  # episodes do not end with what was recorded
            seen.read()
    seen.read()
    reports = [r for r in seen.reports if r.where == "logged"]
    assert [r.layers for r in reports] == [["reward"], ["reward"]]
    assert seen.values("custom", layer="global_step") == [n for n in range(20) for _ in (0, 1)]
    seen.run.log(reward=math.nan, loss=math.nan)
    seen.run.log(loss=math.inf, epoch=1)
    seen.run.log(loss=0.5)
    seen.run.log(loss=math.nan)
    seen.read()
    reports = [r for r in seen.reports if r.where == "logged"]
    assert [r.layers for r in reports[2:]] == [["reward", "loss"], ["loss"]]


def test_scope_and_stage_apply_to_all_names_of_a_call(watched: Watch) -> None:
    seen = watched()
    seen.run.log({"loss": 1.0, "acc": 0.5}, scope="critic", stage="val")
    declared = {(d.kind, d.scope, d.layer, d.stage) for d in _declared(seen)}
    assert declared >= {("loss", "critic", "", "val"), ("custom", "critic", "acc", "val")}


def _declared(seen: Watched) -> list[Any]:
    seen.read()
    return seen.run.recorder.catalog.all()
