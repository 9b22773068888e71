"""Distances of arguments from the edge of their operation, read from the graph of the loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from nanwatch.contract.limits import to_name
from nanwatch.probes.arguments import Signs, operations
from sdk.watched import Watched

Watch = Callable[..., Watched]
Tensor = torch.Tensor
KIND = "domain_margin"


def train(loss_of: Callable[[Tensor], Tensor], steps: int = 4) -> list[Tensor]:
    """Steps of a linear layer; its outputs before each of them."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    outputs: list[Tensor] = []
    for _ in range(steps):
        optimizer.zero_grad()
        out = model(torch.rand(8, 4))
        outputs.append(out.detach().clone())
        loss_of(out).backward()
        optimizer.step()
    return outputs


def least(x: Tensor) -> float:
    return float(x.min())


SEEN: dict[str, tuple[Callable[[Tensor], Tensor], str, Callable[[Tensor], float]]] = {
    "log of a line": (
        lambda x: (x + 5).log().mean(), "log:unbounded", lambda x: least(x + 5)
    ),
    "log1p": (lambda x: torch.log1p(x).mean(), "log:unbounded", lambda x: 1 + least(x)),
    "log1p of -p": (
        lambda x: torch.log1p(-x.sigmoid()).mean(), "log:1-p", lambda x: least(1 - x.sigmoid())
    ),
    "log of softmax": (
        lambda x: -x.softmax(1).log().mean(), "log", lambda x: least(x.softmax(1))
    ),
    "log of 1 - sigmoid": (
        lambda x: -(1 - x.sigmoid()).log().mean(), "log:1-p", lambda x: least(1 - x.sigmoid())
    ),
    "log of 1 - sigmoid with a floor": (
        lambda x: -(1 - x.sigmoid() + 1e-8).log().mean(), "log", lambda x: least(1 - x.sigmoid())
    ),
    "root of a mean square": (
        lambda x: x.square().mean().sqrt(), "sqrt", lambda x: float(x.square().mean())
    ),
    "root by hand": (
        lambda x: ((x + 5) ** 0.5).mean(), "power:unbounded", lambda x: least(x + 5)
    ),
    "divisor that is learnt": (
        lambda x: (1 / (x + 5)).mean(), "division:unbounded", lambda x: least(x + 5)
    ),
    "norm below": (
        lambda x: (x / x.norm(dim=1, keepdim=True)).mean(),
        "division",
        lambda x: least(x.norm(dim=1)),
    ),
    "exp": (
        lambda x: x.exp().mean(),
        "exp",
        lambda x: math.log(torch.finfo(torch.float32).max) - float(x.max()),
    ),
    "acos": (
        lambda x: torch.acos(x / 10).mean(),
        "acos:unbounded",
        lambda x: 1 - float(x.abs().max()) / 10,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_the_least_distance_of_each_batch(watched: Watch, name: str) -> None:
    seen = watched()
    loss_of, operation, expected = SEEN[name]
    assert to_name(operation) == operation, "the server keeps it as it is"
    outputs = train(loss_of)
    margins = seen.read().series(KIND, layer=operation)
    assert margins and margins[0][0] == 1
    for step, margin in margins:
        assert margin == pytest.approx(expected(outputs[step - 1]), rel=1e-3, abs=1e-4)


def test_a_nan_and_a_crossing_are_kept_as_they_are(watched: Watch) -> None:
    seen = watched()
    train(lambda x: (x - 100).log().mean(), steps=2)
    assert all(margin < 0 or math.isnan(margin) for margin in seen.read().values(
        KIND, layer="log:unbounded"
    ))  # fmt: skip


def test_losses_without_such_operations_have_no_series(watched: Watch) -> None:
    seen = watched()
    train(lambda x: F.cross_entropy(x / 2.0, torch.zeros(8, dtype=torch.long)), steps=8)
    assert not [key for key in seen.read().points if key[0] == KIND]


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_checkpointed_is_not_computed_again(watched: Watch, reentrant: bool) -> None:
    seen = watched()
    calls = 0

    def inner(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return (x + 5).log()

    train(lambda x: checkpoint(inner, x, use_reentrant=reentrant).mean(), steps=4)
    assert calls == 8, "forward and the recomputation of backward"
    found = [key for key in seen.read().points if key[0] == KIND]
    assert bool(found) is reentrant, "backward of the recomputed part is a graph like any other"


def test_another_loss_after_a_warm_up_is_noticed_at_once(watched: Watch) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9  # at every attempt
    turn = 0

    def loss_of(x: Tensor) -> Tensor:
        nonlocal turn
        turn += 1
        return x.abs().mean() if turn <= 20 else -(x.square() + 1).log().mean()

    train(loss_of, steps=24)
    assert [step for step, _ in seen.read().series(KIND, layer="log")] == [21, 22, 23, 24]


def test_a_graph_that_changes_is_searched_again(watched: Watch) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9  # at every attempt
    turn = 0

    def loss_of(x: Tensor) -> Tensor:
        nonlocal turn
        turn += 1
        inner = x.square() + 1
        return inner.log().mean() if turn % 2 else inner.sum(1).mean().sqrt()

    train(loss_of, steps=6)
    assert [step for step, _ in seen.read().series(KIND, layer="log")] == [1, 3, 5]
    assert [step for step, _ in seen.series(KIND, layer="sqrt")] == [2, 4, 6]


HELD: list[tuple[Callable[[Tensor], Tensor], bool]] = [
    (lambda x: x.softmax(-1) + 1e-8, True),
    (lambda x: x.exp().sum(-1), True),
    (lambda x: (x * x).mean() + 1, True),
    (lambda x: x.clamp(min=1e-6), True),
    (lambda x: F.softplus(x)[:, :1].view(-1), True),
    (lambda x: 1 - x.tanh() ** 2 + 1e-6, True),
    (lambda x: x.relu() + 1e-8, True),
    (lambda x: (x.relu() * x.exp()).sum(-1) + 1e-8, True),
    (lambda x: x.relu() + x.exp(), True),
    (lambda x: x.clamp_min(0.0), False),
    (lambda x: x.relu(), False),
    (lambda x: x.clamp(max=1.0), False),
    (lambda x: x.relu() + x.clamp(min=0), False),
    (lambda x: 1 - x.square(), False),
    (lambda x: x + 1, False),
    (lambda x: x.square() - x.exp(), False),
    (lambda x: x.exp() * x, False),
    (lambda x: -x.sigmoid(), False),
    (lambda x: -x.log_softmax(1), True),
    (lambda x: x.exp().neg().neg(), True),
    (lambda x: F.cross_entropy(x, torch.zeros(4, dtype=torch.long)), True),
    (lambda x: F.hardtanh(x, 1e-6, 1.0), True),
    (lambda x: F.hardtanh(x), False),
    (lambda x: torch.maximum(x, x.exp()), True),
    (lambda x: torch.maximum(x, -x), False),
    (lambda x: torch.clamp_min(x, torch.full((3,), 0.1)), True),
    (lambda x: x.sigmoid() - 0.5, False),
]


@pytest.mark.parametrize("number", range(len(HELD)))
def test_what_keeps_an_argument_positive(number: int) -> None:
    made, held = HELD[number]
    assert Signs().positive(made(torch.rand(4, 3, requires_grad=True)).grad_fn) is held


def test_operations_are_found_from_the_loss_on() -> None:
    x = torch.rand(4, 3, requires_grad=True)
    loss = x.softmax(1).log().sqrt().mean()
    found = operations([loss.grad_fn], 300, 16)
    assert [one.name for one in found] == ["sqrt:unbounded", "log"]
    assert len(operations([loss.grad_fn], 300, 1)) == 1
    assert operations([loss.grad_fn], 1, 16) == []


def test_a_wide_graph_costs_one_search(watched: Watch) -> None:
    """Message passing: every node of a layer adds up all of the one before."""
    x = torch.rand(6, requires_grad=True)
    parts = [x[i].exp() for i in range(6)]
    for _ in range(8):
        parts = [torch.stack(parts).sum() + 1 for _ in range(6)]
    signs = Signs()
    assert signs.positive(parts[0].grad_fn)
    assert signs._asked < 400, "each node once, not once for each way to it"


def test_bounds_that_are_packed_are_not_asked_for(watched: Watch) -> None:
    seen = watched()
    calls = 0
    bound = torch.full((3,), 0.1)

    def inner(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.clamp_min(x, bound)

    train(lambda x: checkpoint(inner, x, use_reentrant=False).log().mean(), steps=4)
    assert calls == 8, "forward and the recomputation of backward"
    assert seen.read().series(KIND, layer="log")
