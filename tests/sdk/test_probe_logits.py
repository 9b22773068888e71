"""The largest logit is found by what the graph says, whoever computes the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nanwatch.probes import logits
from sdk.watched import Watched

Make = Callable[..., Watched]


def mlp(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))


def train(model: Any, loss_of: Callable[[torch.Tensor], torch.Tensor], steps: int = 6) -> Any:
    """The last output."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    out = torch.zeros(())
    for _ in range(steps):
        optimizer.zero_grad()
        out = model(torch.randn(16, 4))
        loss_of(out).backward()
        optimizer.step()
    return out


def labels(out: torch.Tensor) -> torch.Tensor:
    return torch.randint(0, out.shape[-1], out.shape[:-1])


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda out: F.cross_entropy(out, labels(out)),
        lambda out: nn.CrossEntropyLoss(label_smoothing=0.1)(out / 2, labels(out)),
        lambda out: F.nll_loss(out.log_softmax(1), labels(out)),
        lambda out: -torch.distributions.Categorical(logits=out).log_prob(labels(out)).mean(),
        lambda out: F.binary_cross_entropy_with_logits(out, torch.ones_like(out)),
        lambda out: F.cross_entropy(out.float(), labels(out)) * 3 + out.square().mean(),
    ],
)
def test_outputs_that_go_into_a_softmax(watched: Make, loss_of: Any) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    out = train(mlp(), loss_of)
    seen.read()
    series = seen.series("logit_max")
    assert [step for step, _ in series] == [3, 4, 5, 6]
    assert series[-1][1] == out.abs().max().item()
    assert seen.run.observer.probes.coverage()["logits"] == "every attempt"


class WithAttention(nn.Module):
    """Has a softmax inside, and a number as output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).softmax(-1))


@pytest.mark.parametrize("make", [mlp, WithAttention])
def test_outputs_that_do_not(watched: Make, make: Any) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    train(make(), lambda out: out.square().mean(), 10)
    seen.read()
    assert not seen.series("logit_max")
    assert "logits" not in seen.run.observer.probes.coverage()


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_language_models(watched: Make, name: str) -> None:
    from sdk.test_probe_critics import language_model

    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    torch.manual_seed(0)
    model, inputs = language_model(name)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(5):
        out = model(**inputs)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert seen.read().values("logit_max")[-1] == out.logits.abs().max().item()  # type: ignore[possibly-undefined]


def test_the_graph_is_not_kept(watched: Make) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    F.cross_entropy(model(torch.randn(2, 4)), torch.tensor([0, 1])).backward()
    optimizer.step()
    model(torch.randn(2, 4))
    (probe,) = (p for p in seen.run.observer.probes.active if isinstance(p, logits.Logits))
    nodes = [output.node for output in probe._outputs.values()]
    out = model(torch.randn(2, 4))
    F.cross_entropy(out, labels(out)).backward()
    assert nodes and all(output.node is None for output in probe._outputs.values())


def test_rows_of_a_large_output() -> None:
    output = torch.zeros(2, logits.ELEMENTS_MOST // 64, 64)
    output[0, 0, 5] = -7
    assert list(logits.largest(output).get()) == [7.0]
    output[1, 2, 3] = math.nan
    assert math.isnan(logits.largest(output).get()[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_weights_are_the_same_to_the_bit(watched: Make) -> None:
    def run() -> list[torch.Tensor]:
        model = mlp()
        train(model, lambda out: F.cross_entropy(out, labels(out)), 30)
        return [*(p.detach() for p in model.parameters()), torch.rand(2)]

    expected = run()
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    found = run()
    assert seen.read().series("logit_max")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
