"""A probe that keeps failing is switched off, alone, and the coverage says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nanwatch.guard import GUARD, Guard
from nanwatch.probes import moments, updates
from nanwatch.probes.probe import FAILURES_MOST
from sdk.watched import Watched

pytestmark = pytest.mark.usefixtures("every_attempt")


def test_the_others_and_the_training_go_on(
    watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise MemoryError("no room for the copy")

    monkeypatch.setattr(updates, "grouped", broken)
    monkeypatch.setattr(Guard, "reraise", False)
    seen = watched()
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    calls = FAILURES_MOST + 4
    for _ in range(calls):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()
    seen.read()
    assert len(seen.values("loss")) == calls
    assert len(seen.values("moment_norm", "", "exp_avg")) == calls - 1
    assert not seen.values("update_ratio_layer", "", "weight")
    assert GUARD.counts == {"probe weight updates:MemoryError": FAILURES_MOST}
    coverage = seen.run.observer.probes.coverage()
    assert coverage["weight updates"] == "off: MemoryError"
    assert coverage[moments.Moments.name].startswith("every ")
    GUARD.clear()
