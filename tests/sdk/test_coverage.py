"""What the page says of how often things are measured is what was done."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from nanwatch.contract.frames import Mark, Table
from nanwatch.link.box import Box
from nanwatch.probes.overhead import OFF
from sdk.watched import Watched

Watch = Callable[..., Watched]


def train(attempts: int, clip: bool = False) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(attempts):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        if clip:
            clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def told(seen: Watched) -> Iterator[tuple[int, dict[str, str]]]:
    """(step, what is measured) of each time it was told."""
    for mark in seen.read().marks:
        if mark.what == "coverage":
            yield mark.step, mark.data


def test_told_early_and_when_the_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that nothing fits into: attempts 1, 2, 3, 5, 9, 17, … are measured."""
    monkeypatch.setenv("NANWATCH_BUDGET", "1e-9")
    with nanwatch.init(mode="offline") as run:
        train(150)
    (spool,) = (tmp_path / "data" / "spool").iterdir()
    records = list(Box(spool).records("scalars"))
    marks = [one for one, _ in records if isinstance(one, Mark) and one.what == "coverage"]
    for name in ("gradient norms", "weight updates"):
        said = [(mark.step, mark.data[name]) for mark in marks]
        often = {1: "every attempt", 20: "every 16", 60: "every 32", 150: "every 128"}
        assert said == list(often.items()), name
    measured = sum(
        len(one.steps) // 8
        for one, declared in records
        if isinstance(one, Table)
        and any(declared[number].kind == "update_norm" for number in one.ids)
    )
    assert measured == 9
    assert isinstance(run, nanwatch.run.Run) and run.observer.clock.step == 150


def test_nothing_new_is_not_told_again(watched: Watch) -> None:
    seen = watched()
    seen.run.observer.telling.at_end()
    assert list(told(seen)) == [], "a run that only logs has nothing to say"
    train(1)
    for _ in range(2):
        seen.run.observer.telling.at_end()
    said = [what for _, what in told(seen)]
    assert all(before != after for before, after in itertools.pairwise(said))


@pytest.mark.parametrize(("clip", "norms"), [(False, OFF), (True, "every attempt")])
def test_without_a_budget(
    clip: bool, norms: str, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pass is made. The norms of the script's own clipping are there all the same."""
    monkeypatch.setenv("NANWATCH_BUDGET", "0")
    seen = watched()
    train(25, clip)
    said = [what for _, what in told(seen)]
    assert {what["gradient norms"] for what in said} == {norms}
    assert {what["weight updates"] for what in said} == {OFF}
    assert said[-1]["buffers and copies"] == OFF
    assert len(seen.values("grad_norm")) == (25 if clip else 0)
    assert not seen.values("update_norm")


def test_while_more_is_measured_the_usual_cadence_is_not_claimed(watched: Watch) -> None:
    seen = watched()
    train(19)
    observer = seen.run.observer
    observer.cadence.every = 8
    observer.cadence.alert()
    observer.telling.at_end()
    (*_, (_, what)) = told(seen)
    assert what["gradient norms"] == "every attempt for now, else every 8"
