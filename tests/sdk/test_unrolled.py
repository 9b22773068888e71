"""Loops over time that no recurrent module shows are told by the graph; parallel uses are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nanwatch.probes.unrolled import uses_in_a_row
from sdk.watched import Watched

Watch = Callable[..., Watched]
Tensor = torch.Tensor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.step, self.into, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.a_log = nn.Parameter(torch.zeros(4))
        self.cell = nn.GRUCell(4, 4)


def fed_back(net: Net, x: Tensor, times: int) -> Tensor:
    for _ in range(times):
        x = torch.tanh(net.step(x))
    return x.sum()


def rollout(net: Net, x: Tensor, times: int) -> Tensor:
    state, losses = x, []
    for _ in range(times):
        state = state + net.step(state)
        losses.append((state - x).square().mean())
    return torch.stack(losses).mean()


def scan(net: Net, x: Tensor, times: int) -> Tensor:
    state, outs = torch.zeros_like(x), []
    for _ in range(times):
        state = torch.exp(-torch.exp(net.a_log) * 0.1) * state + net.into(x) * 0.1
        outs.append(net.out(state))
    return torch.stack(outs, 1).square().mean()


def sliced_scan(net: Net, x: Tensor, times: int) -> Tensor:
    """Decay and input of all steps at once; the loop itself uses no weight."""
    series = net.into(x.unsqueeze(1).expand(-1, times, -1))
    decay = torch.exp(-torch.exp(net.a_log) * series.sigmoid())
    state = torch.zeros_like(x)
    for t in range(times):
        state = decay[:, t] * state + series[:, t]
    return state.sum()


def cells(net: Net, x: Tensor, times: int) -> Tensor:
    state = torch.zeros_like(x)
    for _ in range(times):
        state = net.cell(x, state)
    return state.sum()


def one_by_one(net: Net, x: Tensor, times: int) -> Tensor:
    loss = x.new_zeros(())
    for n in range(times):
        loss = loss + (net.step(x[n % len(x)]) - 1).square().sum()
    return loss


def views(net: Net, x: Tensor, times: int) -> Tensor:
    return torch.stack([net.step(x + n).square().mean() for n in range(times)]).mean()


@pytest.mark.parametrize("loop", [fed_back, rollout, scan, sliced_scan, cells])
@pytest.mark.parametrize("times", [8, 30])
def test_uses_one_behind_the_other(loop: Callable[..., Tensor], times: int) -> None:
    assert uses_in_a_row([loop(Net(), torch.randn(8, 4), times).grad_fn]) == times


def slices_side_by_side(net: Net, x: Tensor, times: int) -> Tensor:
    out = net.step(x)
    return torch.stack([out[n % len(x)].square().mean() for n in range(times)]).mean()


@pytest.mark.parametrize("loop", [one_by_one, views, slices_side_by_side])
def test_uses_side_by_side_are_none(loop: Callable[..., Tensor]) -> None:
    assert uses_in_a_row([loop(Net(), torch.randn(8, 4), 12).grad_fn]) <= 1


def test_deep_nets_use_each_weight_once() -> None:
    deep = nn.Sequential(*[part for _ in range(20) for part in (nn.Linear(4, 4), nn.ReLU())])
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    attends = nn.TransformerEncoder(layer, 4)
    assert uses_in_a_row([deep(torch.randn(2, 4)).sum().grad_fn]) <= 1
    # queries, keys and values are three slices of one tensor
    assert uses_in_a_row([attends(torch.randn(2, 5, 16)).sum().grad_fn]) <= 3


def test_a_run_tells_it_and_again_when_rollouts_grow(watched: Watch) -> None:
    seen, net = watched(), Net()
    optimizer = torch.optim.SGD(net.parameters(), 1e-9)
    for number in range(20):
        optimizer.zero_grad()
        rollout(net, torch.randn(8, 4), 10 if number < 10 else 24).backward()
        optimizer.step()
    marks = [mark.data for mark in seen.read().marks if mark.what == "config"]
    told = [data["unrolled"] for data in marks if "unrolled" in data]
    assert told == ["10", "24"]
