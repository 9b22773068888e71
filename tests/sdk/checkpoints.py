"""Small real trainings that leave checkpoints, and the reading of them within the test process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nanwatch.forensics.checkpoint.facts import CheckpointFacts
from nanwatch.forensics.checkpoint.findings import Finding
from nanwatch.forensics.checkpoint.formats import parts
from nanwatch.forensics.checkpoint.judge import Verdict, judge
from nanwatch.forensics.checkpoint.opening import prepare
from nanwatch.forensics.checkpoint.reading import Checkpoint, read

Make = Callable[[nn.Module], torch.optim.Optimizer]


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """Adam at 1e-3."""
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def network() -> nn.Sequential:
    """Two layers with a BatchNorm between them."""
    return nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))


def train(
    model: nn.Module | None = None, steps: int = 60, make: Make = adam, seed: int = 0
) -> tuple[Any, torch.optim.Optimizer]:
    """A regression that works."""
    torch.manual_seed(seed)
    model = network() if model is None else model
    optimizer = make(model)
    wanted = torch.randn(10, 3)
    for _ in range(steps):
        x = torch.randn(32, 10)
        loss = (model(x) - x @ wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, optimizer


def save(path: Path, model: nn.Module, optimizer: Any = None, **more: Any) -> Path:
    """As most scripts do it."""
    content: dict[str, Any] = {"model": model.state_dict(), **more}
    if optimizer is not None:
        content["optimizer"] = optimizer.state_dict()
    torch.save(content, path)
    return path


def facts_of(path: Path, against: Path | None = None, allow: list[str] | None = None) -> Any:
    """What a checkpoint holds, read in this process."""
    with prepare(allow or []):
        opened = [Checkpoint(p, parts(p)).open(_quiet) for p in (path, against) if p is not None]
        return read(opened[0], opened[1] if against is not None else None, _quiet)


def _quiet(text: str, done: int, total: int) -> None:
    assert done >= 0 and total >= 0, text


def verdict_of(path: Path, against: Path | None = None) -> Verdict:
    """The verdict on a checkpoint read in this process."""
    return judge(facts_of(path, against))


def finding(found: Verdict | CheckpointFacts, rule: str) -> Finding:
    """The finding of a rule, which must be there once."""
    verdict = judge(found) if isinstance(found, CheckpointFacts) else found
    matching = [f for f in verdict.findings if f.rule == rule]
    assert len(matching) == 1, [f.rule for f in verdict.findings]
    return matching[0]


def rules(found: Verdict) -> list[str]:
    """Names of the rules that found something, worst first."""
    return [f.rule for f in found.findings]
