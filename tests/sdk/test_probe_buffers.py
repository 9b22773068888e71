"""BatchNorm's statistics, EMA copies and target networks."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable

import pytest
import torch

from nanwatch.probes.buffers import Buffers
from sdk.watched import Watched

pytestmark = pytest.mark.usefixtures("every_attempt")

Make = Callable[..., Watched]


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
        self.out = torch.nn.Linear(8, 1)
        self.register_buffer("scale", torch.tensor([1.0, -7.0]))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64) * (3 + 4j))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.body(x))


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(16, 4)).square().mean().backward()
    optimizer.step()


def norm(model: torch.nn.Module) -> float:
    return math.sqrt(sum(float(p.detach().double().square().sum()) for p in model.parameters()))


def test_largest_value_of_every_floating_point_buffer(watched: Make) -> None:
    seen = watched()
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    variances = []
    for _ in range(4):
        step(model, optimizer)
        norm_layer = model.body[1]
        assert isinstance(norm_layer, torch.nn.BatchNorm1d) and norm_layer.running_var is not None
        variances.append(float(norm_layer.running_var.abs().max()))
    seen.read()
    found = {key[2] for key in seen.points if key[0] == "buffer_abs_max_layer"}
    assert found == {"body.1.running_mean", "body.1.running_var", "scale", "phase"}
    assert seen.series("buffer_abs_max_layer", "", "body.1.running_var") == [
        (n, pytest.approx(value)) for n, value in enumerate(variances, start=1)
    ]
    assert seen.values("buffer_abs_max_layer", "", "scale") == [7.0] * 4
    assert seen.values("buffer_abs_max_layer", "", "phase") == pytest.approx([5.0] * 4)


def test_a_buffer_that_turns_nan_is_reported_once_per_episode(watched: Make) -> None:
    seen = watched()
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    for n in range(8):
        model.scale.fill_(float("nan") if n in (2, 3, 6) else 1.0)
        step(model, optimizer)
    seen.read()
    reports = [(r.step, r.layers, r.nan) for r in seen.reports if r.where == "buffer"]
    assert reports == [(3, ["scale"], 1), (7, ["scale"], 1)]
    values = seen.values("buffer_abs_max_layer", "", "scale")
    assert [math.isnan(v) for v in values] == [n in (2, 3, 6) for n in range(8)]


def test_a_mask_of_minus_infinity_is_meant(watched: Make) -> None:
    """As in attention: `register_buffer("mask", torch.full(…, -inf).triu(1))`."""
    seen = watched()
    model = Net()
    model.register_buffer("mask", torch.full((4, 4), float("-inf")).triu(1))
    model.register_buffer("table", torch.ones(3))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(3):
        step(model, optimizer)
    seen.read()
    assert not seen.values("buffer_abs_max_layer", "", "mask")
    assert not [event for event in seen.reports if event.where == "buffer"]
    assert not seen.run.observer.health.noticed
    model.mask[0, 0] = math.nan  # type: ignore[index,operator]
    step(model, optimizer)
    seen.read()
    (event,) = [event for event in seen.reports if event.where == "buffer"]
    assert event.layers == ["mask"] and event.nan == 1
    # What was finite once is no mask.
    model.mask.zero_()  # type: ignore[operator]
    step(model, optimizer)
    model.table[0] = math.inf  # type: ignore[index,operator]
    step(model, optimizer)
    seen.read()
    assert [e.layers for e in seen.reports if e.where == "buffer"] == [["mask"], ["table"]]
    # … nor after everything was found anew.
    model.table.fill_(1.0)  # type: ignore[operator]
    step(model, optimizer)
    model.table[0] = math.inf  # type: ignore[index,operator]
    (probe,) = (p for p in seen.run.observer.probes.active if isinstance(p, Buffers))
    probe.named()
    step(model, optimizer)
    seen.read()
    assert [e.layers for e in seen.reports if e.where == "buffer"][2:] == [["table"]]


def test_averaged_models_and_target_networks(watched: Make) -> None:
    seen = watched()
    model, target = Net(), Net()
    ema = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for n in range(4):
        step(model, optimizer)
        ema.update_parameters(model)
        if n == 2:
            with torch.no_grad():
                target.out.weight[0, 0] = float("nan")
    seen.read()
    assert len(seen.values("param_norm", "ema")) == 4
    # The attempt closes before the average is updated: each value is that of the step before.
    step(model, optimizer)
    assert seen.read().values("param_norm", "ema")[-1] == pytest.approx(norm(ema), rel=1e-5)
    assert seen.values("buffer_abs_max_layer", "ema", "scale") == [7.0] * 5
    assert seen.values("buffer_abs_max_layer", "target", "scale") == [7.0] * 5
    (report,) = [r for r in seen.reports if r.where == "parameter"]
    assert (report.scope, report.step, report.layers) == ("target", 4, ["out.weight"])
    assert [math.isnan(v) for v in seen.values("param_norm", "target")] == [False] * 3 + [True] * 2


def test_owned_weights_are_not_measured_twice(watched: Make) -> None:
    seen = watched()
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(3):
        step(model, optimizer)
    assert [n for n, _ in seen.read().series("param_norm")] == [1, 2, 3]


def test_a_target_inside_the_same_module_is_the_rest_of_it(watched: Make) -> None:
    seen = watched()

    class Agent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.online, self.target = Net(), Net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.online(x)

    agent = Agent()
    begun = norm(agent.target)
    optimizer = torch.optim.SGD(agent.online.parameters(), 0.01)
    for n in range(3):
        if n == 1:
            agent.target.out.bias.data.fill_(float("inf"))
        optimizer.zero_grad()
        agent(torch.randn(16, 4)).square().mean().backward()
        optimizer.step()
    seen.read()
    assert seen.series("param_norm", "agent-rest")[0] == (1, pytest.approx(begun))
    assert seen.values("param_norm", "agent-rest")[1:] == [math.inf] * 2
    (report,) = [r for r in seen.reports if r.where == "parameter"]
    assert (report.scope, report.step, report.inf) == ("agent-rest", 2, 1)
    assert report.layers == ["target.out.bias"]


def test_replaced_buffers_are_found_and_old_ones_let_go(watched: Make) -> None:
    seen = watched()
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    step(model, optimizer)
    old = weakref.ref(model.scale)
    model.scale = torch.tensor([11.0])
    gc.collect()
    assert old() is None
    step(model, optimizer)
    assert seen.read().values("buffer_abs_max_layer", "", "scale") == [7.0, 11.0]
    gone = weakref.ref(model)
    del model, optimizer
    gc.collect()
    assert gone() is None


def test_meta_and_eight_bit_buffers_are_left_alone(watched: Make) -> None:
    seen = watched()
    model = Net()
    model.register_buffer("ghost", torch.empty(3, device="meta"))
    model.register_buffer("tiny", torch.ones(3).to(torch.float8_e4m3fn))
    step(model, torch.optim.SGD(model.parameters(), 0.01))
    found = {key[2] for key in seen.read().points if key[0] == "buffer_abs_max_layer"}
    assert "scale" in found and not found & {"ghost", "tiny", "empty", "count"}
