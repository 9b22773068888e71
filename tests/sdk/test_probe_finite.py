"""`run.finite` and the counters of non-finite logged values per stage."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

import nanwatch
from nanwatch.contract.frames import NonFinite, Table
from nanwatch.run import NullRun
from sdk.watched import Watched

Make = Callable[..., Watched]
NAN, INF = float("nan"), float("inf")


def test_elements_are_counted_and_an_episode_is_reported_once(watched: Make) -> None:
    seen = watched()
    clean = torch.randn(8, 3)
    bad = clean.clone()
    bad[0, 0], bad[1, 2], bad[4, 1] = NAN, INF, -INF
    for value in (clean, bad, bad, clean, bad):
        seen.run.finite("replay batch", value)
    seen.read()
    assert seen.values("nonfinite", "", "replay_batch") == [0, 3, 3, 0, 3]
    assert [(r.where, r.layers, r.nan, r.inf, r.total) for r in seen.reports] == [
        ("watched", ["replay_batch"], 1, 2, 1)
    ] * 2


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (torch.tensor(NAN), 1),
        (torch.tensor([1e38, 1e38, 1e38, 1e38]), 0),  # the sum overflows, no element does
        (torch.tensor([complex(1, NAN), complex(INF, 0)]), 2),
        (torch.tensor([1, 2]), 0),
        (torch.empty(0), 0),
        (torch.tensor([INF], dtype=torch.float16), 1),
        (torch.sparse_coo_tensor([[0, 2]], [NAN, 1.0], (5,), check_invariants=False), 1),
        (torch.tensor([NAN], requires_grad=True), 1),
        ({"obs": torch.tensor([NAN]), "next": [torch.tensor([INF]), 2, (NAN,)]}, 3),
        (NAN, 1),
        (3, 0),
    ],
)
def test_anything_can_be_watched(watched: Make, value: object, count: int) -> None:
    seen = watched()
    seen.run.finite("x", value)
    assert seen.read().values("nonfinite", "", "x") == [count]


def test_arrays_of_numpy(watched: Make) -> None:
    numpy = pytest.importorskip("numpy")
    seen = watched()
    seen.run.finite("a", numpy.array([[1.0, NAN], [INF, -INF]], dtype=numpy.float32))
    seen.run.finite("a", numpy.array([1, 2]))
    seen.run.finite("a", numpy.array([[1.0, 2.0]]))
    assert seen.read().values("nonfinite", "", "a") == [3, 0, 0]


def test_what_holds_no_numbers_is_counted_as_a_drop(watched: Make) -> None:
    seen = watched()
    seen.run.finite("text", "hello")
    seen.run.finite("nothing", {"a": object(), "b": []})
    assert not seen.read().points
    assert seen.run.recorder.dropped == {"not a number": 2}


def test_a_value_that_contains_itself_ends(watched: Make) -> None:
    seen = watched()
    loop: list[object] = [NAN]
    loop.append(loop)
    seen.run.finite("loop", loop)
    assert seen.read().values("nonfinite", "", "loop")[0] >= 1


def test_watching_changes_nothing_and_keeps_nothing(watched: Make) -> None:
    seen = watched()
    leaf = torch.ones(3, requires_grad=True)
    value = leaf * 2
    version = value._version
    seen.run.finite("x", value)
    value.sum().backward()
    assert value._version == version and torch.equal(leaf.grad, torch.full((3,), 2.0))


def test_scope_stage_and_other_threads(watched: Make) -> None:
    seen = watched()
    value = torch.tensor([NAN, 1.0])
    work = threading.Thread(
        target=lambda: seen.run.finite("context", value, scope="policy", stage="val")
    )
    work.start()
    work.join()
    seen.read()
    (decl,) = [d for d in seen.run.recorder.catalog.all() if d.kind == "nonfinite"]
    assert (decl.scope, decl.layer, decl.stage) == ("policy", "context", "val")
    assert seen.reports[0].scope == "policy"


def test_the_facade_and_the_run_that_does_nothing() -> None:
    assert NullRun().finite("x", torch.tensor([NAN])) is None
    assert nanwatch.finite is not None and "finite" in nanwatch.__all__


def test_non_finite_logged_values_are_counted_per_stage(watched: Make) -> None:
    seen = watched()
    clock = seen.run.observer.clock
    for n in range(6):
        clock.start_at(n)
        seen.run.log(loss=NAN if n in (1, 2) else 1.0, accuracy=0.5, stage="val")
        seen.run.log(loss=1.0, kl=INF if n == 3 else 0.1)
        seen.run.log(other=2.0 if n < 4 else NAN)
    found: dict[str, list[tuple[int, float]]] = {}
    for record in seen.run.recorder.drain(final=True):
        if isinstance(record, Table):
            series = {d.id: d for d in seen.run.recorder.catalog.all()}
            values, steps = memoryview(record.values).cast("d"), memoryview(record.steps).cast("q")
            for row, number in enumerate(record.ids):
                decl = series[number]
                if (decl.kind, decl.layer) == ("nonfinite", "logged"):
                    column = values[row * len(steps) : (row + 1) * len(steps)]
                    found.setdefault(decl.stage, []).extend(zip(steps, column, strict=True))
        elif isinstance(record, NonFinite):
            seen.reports.append(record)
    assert found["val"] == [(1, 1), (2, 1), (3, 0)]
    assert found["train"] == [(3, 1), (4, 1), (5, 1)]
    assert sorted((r.step, r.where, *r.layers) for r in seen.reports) == [
        (1, "logged", "val/loss"),
        (3, "logged", "kl"),
        (4, "logged", "other"),
    ]


def test_an_episode_is_reported_once_whatever_else_is_logged(watched: Make) -> None:
    seen = watched()
    for n in range(4):
        seen.run.log(loss=NAN)
        seen.run.log(temperature=1.0)
        if n % 2:
            seen.read()
    assert [(r.where, r.layers) for r in seen.reports] == [("logged", ["loss"])]
