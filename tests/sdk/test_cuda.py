"""On a CUDA device: nothing of ours waits for it, changes a weight, or ends up in a CUDA graph.

Needs torch with CUDA, msgspec and websockets only; runs where a device is present.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from sdk.watched import Watched

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device; there is none here"
)

Watch = Callable[..., Watched]


@contextmanager
def no_sync() -> Iterator[None]:
    """An error wherever the host would wait for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Linear(64, 1)).cuda()


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(32, 16, generator=generator).cuda() for _ in range(count)]


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def total_norm(model: nn.Module) -> float:
    return math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters()))


def warm_up(seen: Watched, model: nn.Module, optimizer: Any, x: torch.Tensor) -> None:
    """The first attempts find and name things; device work of theirs may wait."""
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model, x).backward()
        optimizer.step()
    torch.cuda.synchronize()
    seen.run.observer.cadence.every = 1


def optimizers() -> dict[str, Callable[[Any], Any]]:
    return {
        "sgd": lambda p: torch.optim.SGD(p, 1e-3),
        "fused": lambda p: torch.optim.Adam(p, 1e-3, fused=True),
        "capturable": lambda p: torch.optim.Adam(
            p, torch.tensor(1e-3, device="cuda"), capturable=True
        ),
    }


@pytest.mark.parametrize("kind", list(optimizers()))
@pytest.mark.parametrize("clip", [True, False])
def test_a_step_waits_for_nothing_and_tells_the_same_numbers(
    watched: Watch, kind: str, clip: bool
) -> None:
    seen = watched()
    model, data = net(), batches(20)
    optimizer = optimizers()[kind](model.parameters())
    warm_up(seen, model, optimizer, data[0])
    losses: list[float] = []
    norms: dict[int, float] = {}
    for n, x in enumerate(data):
        with no_sync():
            optimizer.zero_grad()
            loss = loss_of(model, x)
            loss.backward()
        norms[n + 4] = total_norm(model)
        with no_sync():
            if clip:
                clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            seen.run.log(output=x, loss_again=loss.detach())
        losses.append(loss.item())
    seen.read()
    assert seen.values("loss")[3:] == pytest.approx(losses, rel=1e-6)
    found = [(step, value) for step, value in seen.series("grad_norm") if step > 3]
    assert len(found) == 20 if clip else len(found) >= 5
    for step, value in found:
        assert value == pytest.approx(norms[step], rel=1e-4)
    assert seen.values("lr")[3:] == pytest.approx([1e-3] * 20)
    assert len(seen.values("custom", layer="output")) == 20


def test_a_factor_on_a_rate_that_lives_on_the_device_waits_for_nothing(watched: Watch) -> None:
    from nanwatch.control.learning_rate import set_factor

    seen = watched()
    model, data = net(), batches(5)
    optimizer = optimizers()["capturable"](model.parameters())
    warm_up(seen, model, optimizer, data[0])
    set_factor(optimizer, 0.25)
    for x in data:
        with no_sync():
            optimizer.zero_grad()
            loss_of(model, x).backward()
            optimizer.step()
    seen.read()
    assert seen.values("lr")[3:] == pytest.approx([2.5e-4] * 5)
    assert seen.values("lr_scheduled")[3:] == pytest.approx([1e-3] * 5)
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(1e-3)


@pytest.mark.parametrize("fused", [True, False])
def test_a_scaler_that_skips_is_seen_without_waiting(watched: Watch, fused: bool) -> None:
    seen = watched()
    model, data = net(), batches(12)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=fused)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
    skipped = {4, 9}
    norms: dict[int, float] = {}
    for n, x in enumerate(data):
        # The first attempts name things; the scaler's own step waits unless it is fused.
        guard = no_sync if n >= 3 else _nothing
        with guard():
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = loss_of(model, x * (1e30 if n in skipped else 1.0))
            scaler.scale(loss).backward()
        norms[n + 1] = total_norm(model) / scaler.get_scale()
        with guard() if fused else _nothing():
            scaler.step(optimizer)
            scaler.update()
    seen.read()
    assert [n for n, v in enumerate(seen.values("update_applied")) if v == 0.0] == sorted(skipped)
    assert seen.values("loss_scale")
    for step, value in seen.series("grad_norm"):
        if step - 1 not in skipped:
            assert value == pytest.approx(norms[step], rel=1e-3)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_weights_are_identical_with_and_without_us(watched: Watch) -> None:
    start, data = net(), batches(40)

    def train() -> list[torch.Tensor]:
        model = copy.deepcopy(start)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2, fused=True)
        for x in data:
            optimizer.zero_grad()
            loss_of(model, x).backward()
            clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()]

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        plain = train()
        assert all(torch.equal(a, b) for a, b in zip(plain, train(), strict=True)), (
            "this device is not deterministic by itself"
        )
        watched()
        assert all(torch.equal(a, b) for a, b in zip(plain, train(), strict=True))
    finally:
        torch.use_deterministic_algorithms(before)


def test_a_captured_graph_holds_nothing_of_ours(watched: Watch) -> None:
    """A background thread that asks for pending numbers must not break the capture either."""
    seen = watched()
    model, data = net(), batches(3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, capturable=True)
    static = data[0].clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        warm_up(seen, model, optimizer, static)
    torch.cuda.current_stream().wait_stream(side)
    attempts = seen.run.observer.clock.step
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad()
    with torch.cuda.graph(graph):
        loss = loss_of(model, static)
        loss.backward()
        optimizer.step()
        seen.run.log(inside=loss.detach())
        seen.run.recorder.drain()  # what the background thread does meanwhile
    assert seen.run.observer.clock.step == attempts
    assert seen.run.recorder.dropped == {"logged during a CUDA graph capture": 1}
    before = [p.detach().clone() for p in model.parameters()]
    graph.replay()
    torch.cuda.synchronize()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    optimizer.zero_grad()
    loss_of(model, data[1]).backward()
    optimizer.step()
    assert seen.run.observer.clock.step == attempts + 1, "after the capture all goes on"


def test_numbers_arrive_without_being_waited_for(watched: Watch) -> None:
    seen = watched()
    model, data = net(), batches(4)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    warm_up(seen, model, optimizer, data[0])
    optimizer.zero_grad()
    loss_of(model, data[1]).backward()
    optimizer.step()
    until = time.monotonic() + 10
    found: list[Any] = []
    while not found and time.monotonic() < until:
        found = seen.run.recorder.drain(final=False)
        time.sleep(0.01)
    assert found and seen.run.recorder.backlog == 0
