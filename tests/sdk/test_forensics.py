"""The origin of non-finite numbers is named, in real trainings, with and without tracing."""

from __future__ import annotations

import copy
import io
import logging
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import nanwatch
from nanwatch.contract.frames import Command, CommandResult, Forensics, Go, Record
from nanwatch.forensics.flight_recorder import read
from nanwatch.forensics.verdict import from_gradients
from nanwatch.link.outbox import lane_of
from sdk.watched import Watched

Watch = Callable[..., Watched]
Switch = Callable[[], bool]
NAN = math.nan


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        return x + torch.tanh(self.fc(self.norm(x)))


class Residual(nn.Module):
    """Thirty layers in fifteen residual blocks, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(15))
        self.head = nn.Linear(8, 1)

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def chain() -> nn.Sequential:
    """Thirty linear layers, each followed by an activation that works in place."""
    pairs = (nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True)) for _ in range(29))
    return nn.Sequential(*pairs, nn.Linear(8, 1))


def records(seen: Watched) -> list[Record]:
    return seen.run.recorder.drain(final=True)


def reports(seen: Watched) -> list[Forensics]:
    return [record for record in records(seen) if isinstance(record, Forensics)]


def finite(model: nn.Module) -> bool:
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return all(bool(torch.isfinite(g).all()) for g in grads)


def train(
    model: nn.Module,
    steps: int,
    before: Callable[[int], None] = lambda n: None,
    *,
    skip: bool = False,
    loss: Callable[[Any], Any] = lambda out: out.square().mean(),
    inputs: Callable[[], Any] = lambda: torch.randn(4, 8),
) -> Any:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for n in range(steps):
        before(n)
        optimizer.zero_grad()
        loss(model(inputs())).backward()
        if not skip or finite(model):
            optimizer.step()
    return optimizer


def inject(layer: nn.Module, how: str, active: Switch, rng: random.Random) -> None:
    """Spoil one layer while the switch is on."""

    def output(module: Any, args: Any, out: Any) -> Any:
        if how == "gradient of output" and active() and out.requires_grad:
            out.register_hook(lambda g: g * NAN)
        if how == "output" and active():
            return out * NAN
        return out

    if how == "gradient":
        layer.weight.register_hook(lambda g: g * NAN if active() else g)  # type: ignore
    elif how != "weight":
        layer.register_forward_hook(output)


pytestmark = pytest.mark.usefixtures("every_attempt")

TRIALS = int(os.environ.get("NANWATCH_TRIALS", "2"))
"""Of each kind in each loop."""

LOOPS = ("plain", "skip", "guard")
KINDS = ("output", "weight", "gradient", "gradient of output")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", KINDS)
def test_the_injected_layer_of_thirty_is_named(watched: Watch, how: str, loop: str) -> None:
    """Each trial in two attempts on end; NANWATCH_TRIALS=9 makes 108 trials of them."""
    rng = random.Random(f"{how} {loop}")
    named, missed = 0, []
    for trial in range(TRIALS):
        seen = watched(guard="skip" if loop == "guard" else None)
        torch.manual_seed(trial)
        model = Residual() if trial % 2 else chain()
        layers = [n for n, m in model.named_modules() if list(m.parameters(recurse=False))]
        if how == "gradient of output":
            layers = layers[:-1]  # that of the last layer is the gradient of the loss
        target = rng.choice(layers)
        layer, at, on = model.get_submodule(target), rng.randrange(3, 10), [False]
        inject(layer, how, lambda on=on: on[0], rng)

        def before(
            n: int, on: list[bool] = on, at: int = at, layer: Any = layer, how: str = how
        ) -> None:
            on[0] = at <= n < at + 2
            if how == "weight" and n == at:
                with torch.no_grad():
                    layer.weight.view(-1)[rng.randrange(layer.weight.numel())] = NAN

        train(model, at + 4, before, skip=loop == "skip")
        found = reports(seen)
        seen.run.observer.enabled = False
        seen.run.hooks.remove()
        assert found
        last = found[-1]
        forward = how in ("output", "weight")
        told = last.first_forward if forward else last.first_backward or last.first_forward
        if last.verdict == "layer" and told == target:
            named += 1
        else:
            missed.append((target, last.verdict, last.first_forward, last.first_backward))
    assert named == TRIALS, missed


def test_a_single_bad_batch_is_named_without_tracing(watched: Watch) -> None:
    seen = watched()
    model, on = chain(), [False]
    inject(model[12][0], "output", lambda: on[0], random.Random(0))  # type: ignore[index]
    train(model, 6, lambda n: on.__setitem__(0, n == 4), skip=True)
    (report,) = reports(seen)
    assert (report.step, report.trigger, report.verdict) == (5, "loss", "layer")
    assert (report.first_forward, report.cause) == ("12.0", "nan")
    assert report.tracing_steps == 50 and lane_of(report) == "events"


def test_tracing_tells_the_producer_from_the_propagators(watched: Watch) -> None:
    seen = watched()
    model, on = Residual(), [False]
    inject(model.blocks[3].fc, "output", lambda: on[0], random.Random(0))  # type: ignore
    train(model, 6, lambda n: on.__setitem__(0, n >= 3), skip=True)
    report = reports(seen)[-1]
    assert report.first_forward == "blocks.3.fc" and report.producers == ["blocks.3.fc"]
    assert {"blocks.4.norm", "blocks.14.fc", "head"} <= set(report.propagators)
    assert "blocks.2.fc" not in report.propagators


class Functional(nn.Module):
    """Bad numbers come from an operation that belongs to no module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 1)
        self.sick = False

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        if self.sick:
            x = torch.log(-x.abs())
        return {"value": (self.second(x), None)}["value"]


def test_an_operation_is_named_by_the_module_around_it(watched: Watch) -> None:
    seen = watched()
    model = nn.Sequential(nn.Linear(8, 8), Functional())

    def before(n: int) -> None:
        model[1].sick = n >= 3  # type: ignore[union-attr]

    train(model, 6, before, skip=True, loss=lambda out: out[0].square().mean())
    first, traced = reports(seen)
    assert first.first_forward == "1.first" and first.facts["operation"].startswith("Log")
    assert traced.first_forward == "1" and "after 1.first and before 1.second" in traced.text


def test_overflow_is_told_from_nan(watched: Watch) -> None:
    seen = watched()
    model = chain()

    def before(n: int) -> None:
        if n == 3:
            with torch.no_grad():
                model[5][0].weight.fill_(1e38)  # type: ignore[index]
                model[5][0].bias.fill_(1e38)  # type: ignore[index]
                model[4][0].bias.fill_(1e3)  # type: ignore[index]

    train(model, 6, before, skip=True)
    for report in reports(seen):
        assert (report.cause, report.first_forward) == ("overflow", "5.0")


def test_a_bad_loss_of_a_finite_model(watched: Watch) -> None:
    seen = watched()
    sick = [False]
    criterion = nn.MSELoss()

    def loss(out: Any) -> Any:
        value = criterion(out, torch.zeros_like(out))
        return torch.log(-value) if sick[0] else value

    train(chain(), 6, lambda n: sick.__setitem__(0, n >= 3), skip=True, loss=loss)
    first, traced = reports(seen)
    assert first.verdict == traced.verdict == "loss"
    assert "LogBackward0" in first.text and "the loss was not" in traced.text


def test_a_finite_loss_with_a_bad_gradient(watched: Watch) -> None:
    seen = watched()
    sick = [False]

    def loss(out: Any) -> Any:
        return torch.sqrt((out * 0).square().sum()) if sick[0] else out.square().mean()

    train(chain(), 6, lambda n: sick.__setitem__(0, n >= 3), skip=True, loss=loss)
    first, traced = reports(seen)
    assert first.verdict == "all_at_once" and first.trigger == "gradient"
    assert traced.verdict == "loss" and "square root" in traced.text


def test_a_bad_batch_is_the_datas_fault(watched: Watch) -> None:
    seen = watched()
    sick = [False]

    def inputs() -> Any:
        return torch.full((4, 8), NAN) if sick[0] else torch.randn(4, 8)

    train(chain(), 6, lambda n: sick.__setitem__(0, n >= 3), skip=True, inputs=inputs)
    for report in reports(seen):
        assert report.verdict == "not_found" and report.facts["origin"] == "data"


def test_gradients_that_go_bad_all_at_once() -> None:
    assert from_gradients(["a", "b"], [math.inf, math.inf]).verdict == "all_at_once"
    assert from_gradients(["a", "b"], [1.0, 2.0]).verdict == "not_found"
    found = from_gradients(["a", "a", "b", "c"], [NAN, NAN, NAN, 1.0])
    assert (found.verdict, found.first_backward) == ("layer", "b")


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head, self.bad_at = nn.GRUCell(8, 8), nn.Linear(8, 1), 0

    def forward(self, x: Any) -> Any:
        state = torch.zeros(4, 8)
        for t in range(1, 21):
            state = self.gru(x * NAN if t == self.bad_at else x, state)
        return self.head(state)


def test_the_call_of_a_shared_module_is_counted(watched: Watch) -> None:
    seen = watched()
    model = Cells()
    model.gru.register_forward_hook(
        lambda m, a, out: out * NAN if model.bad_at == -1 and next(calls) == 16 else out
    )
    calls = iter(range(0))

    def before(n: int) -> None:
        nonlocal calls
        calls, model.bad_at = iter(range(20)), -1 if n >= 3 else 0

    train(model, 6, before, skip=True)
    report = reports(seen)[-1]
    assert report.first_forward == "gru" and report.facts["call"] == "17"
    assert "gru (call 17)" in report.text


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_blocks(watched: Watch, reentrant: bool) -> None:
    class Saving(Residual):
        def forward(self, x: Any) -> Any:
            x = x.requires_grad_()
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=reentrant)
            return self.head(x)

    seen = watched()
    model, on = Saving(), [False]
    inject(model.blocks[7].norm, "output", lambda: on[0], random.Random(0))  # type: ignore
    train(model, 6, lambda n: on.__setitem__(0, n >= 3), skip=True)
    assert reports(seen)[-1].first_forward == "blocks.7.norm"


def test_nothing_is_left_behind_and_nothing_is_changed(watched: Watch) -> None:
    def run(trace: bool) -> tuple[dict[str, Any], nn.Module]:
        torch.manual_seed(0)
        model = chain()
        seen = watched()
        forensics = seen.run.forensics
        assert forensics is not None
        original = nn.Module.__call__
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for n in range(8):
            if trace and n == 2:
                forensics.arm_by_command(4)
                assert nn.Module.__call__ is not original
            optimizer.zero_grad()
            model(torch.randn(4, 8)).square().mean().backward()
            if n == 3:
                copy.deepcopy(model)
                torch.save(model, io.BytesIO())
            optimizer.step()
        assert nn.Module.__call__ is original
        assert not model._forward_hooks and not model[0]._forward_pre_hooks  # type: ignore
        seen.run.observer.enabled = False
        seen.run.hooks.remove()
        return model.state_dict(), model

    traced, _ = run(True)
    plain, _ = run(False)
    assert all(torch.equal(traced[name], plain[name]) for name in plain)


def test_a_command_arms_tracing(watched: Watch) -> None:
    seen = watched(control=nanwatch.Control(tracing=True))
    inbox = seen.run.inbox

    def before(n: int) -> None:
        if n == 2:
            inbox.receive(Command(id="t", kind="arm_tracing", args={"steps": 3}, expires_in=60))
            (answer,) = inbox.take_frames()
            inbox.receive(Go(id="t", nonce=answer.nonce))

    train(chain(), 9, before)
    (result,) = [r for r in inbox.take_results() if isinstance(r, CommandResult)]
    assert (result.state, result.step) == ("applied", 3)
    armed, done = reports(seen)
    assert armed.trigger == "command" and armed.tracing_steps == 3 and armed.recorder_path
    assert done.verdict == "not_found" and "finite in every module" in done.text
    assert done.step == 6


def test_the_flight_recorder_holds_the_last_attempts(watched: Watch) -> None:
    seen = watched()
    model, on = chain(), [False]
    inject(model[9][0], "output", lambda: on[0], random.Random(0))  # type: ignore[index]
    train(model, 30, lambda n: on.__setitem__(0, n == 28), skip=True)
    (report,) = reports(seen)
    flight = read(report.recorder_path)
    losses = flight.series["loss", "", "", "train"]
    assert [step for step, _ in losses][:29] == list(range(1, 30)) and math.isnan(losses[28][1])
    layers = {key[2] for key in flight.series if key[0] == "grad_norm_layer"}
    assert {"9.0", "29"} <= layers
    assert flight.report["step"] == 29 and flight.report["facts"]["dtype"] == "float32"
    assert len(flight.state["torch_cpu"]) == torch.get_rng_state().numel()
    text = Path(report.recorder_path).with_suffix(".txt").read_text()
    assert "9.0" in text and "skipped by script" in text and "nan" in text
    with pytest.raises(ValueError, match="expected a flight recorder file"):
        read(Path(report.recorder_path).with_suffix(".txt"))


def test_random_states_can_be_set_again(watched: Watch) -> None:
    seen = watched()
    model, on = chain(), [False]
    inject(model[9][0], "output", lambda: on[0], random.Random(0))  # type: ignore[index]
    train(model, 4, lambda n: on.__setitem__(0, n == 3))
    expected = torch.rand(3), random.random()
    flight = read(reports(seen)[0].recorder_path)
    torch.set_rng_state(torch.tensor(list(flight.state["torch_cpu"]), dtype=torch.uint8))
    version, numbers, gauss = flight.state["python"]
    random.setstate((version, tuple(numbers), gauss))
    assert torch.equal(torch.rand(3), expected[0]) and random.random() == expected[1]


def test_skips_and_the_batch_index(watched: Watch) -> None:
    seen = watched()
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = torch.utils.data.TensorDataset(torch.randn(100, 8))
    for n, (x,) in enumerate(torch.utils.data.DataLoader(data, batch_size=4)):
        optimizer.zero_grad()
        model(x).sum().backward()
        if n < 2:
            optimizer.step()
    (report,) = reports(seen)
    assert report.trigger == "skips" and "20 attempts" in report.text
    assert report.facts["batch index"] == "22"


def test_an_exception_leaves_a_flight_record(watched: Watch) -> None:
    seen = watched()
    train(nn.Linear(8, 1), 3)
    forensics = seen.run.forensics
    assert forensics is not None
    forensics.died("ValueError: out of data")
    (report,) = reports(seen)
    assert report.trigger == "exception" and Path(report.recorder_path).exists()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyboardInterrupt(), "The run ended by KeyboardInterrupt."),
        (ValueError("out of data"), "The run ended by ValueError: out of data."),
        (RuntimeError("Too bad!\n"), "The run ended by RuntimeError: Too bad!"),
        (AssertionError(" "), "The run ended by AssertionError."),
    ],
)
def test_how_a_run_ended_is_a_sentence(
    error: BaseException, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    def end() -> None:
        with nanwatch.init(mode="offline"):
            train(nn.Linear(8, 1), 2)
            raise error

    with caplog.at_level(logging.WARNING, "nanwatch"), pytest.raises(type(error)):
        end()
    assert f"attempt 2: {text} Written to /" in caplog.text


def test_one_episode_is_looked_into_once(watched: Watch) -> None:
    seen = watched()
    model, on = chain(), [False]
    inject(model[9][0], "output", lambda: on[0], random.Random(0))  # type: ignore[index]
    train(model, 60, lambda n: on.__setitem__(0, n >= 3), skip=True)
    found = reports(seen)
    assert len(found) == 2  # the bad attempt itself, then what tracing saw of the next
    assert nn.Module.__call__.__module__.startswith("torch.")


def test_compiled_regions_are_left_as_they_are(watched: Watch) -> None:
    seen = watched()
    forensics = seen.run.forensics
    assert forensics is not None
    graphs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(len(list(graph.graph.nodes)))
        return graph.forward

    torch.compiler.reset()
    model = chain()
    compiled = torch.compile(model, backend=backend)
    compiled(torch.randn(4, 8))
    before = list(graphs)
    torch.compiler.reset()
    forensics.tracer.arm(5, forensics._names)
    graphs.clear()
    compiled(torch.randn(4, 8))
    forensics.tracer.disarm()
    assert graphs == before and len(before) == 1
    torch.compiler.reset()


class Logarithm(nn.Module):
    """A layer and an operation after it that goes wrong on demand."""

    def __init__(self, on: list[bool]) -> None:
        super().__init__()
        self.project, self.on = nn.Linear(16, 16), on

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log((-1.0 if self.on[0] else 1.0) * (1.0 + self.project(x).abs()))


def test_an_operation_before_the_last_layer_is_not_the_loss(watched: Watch) -> None:
    """The loss also takes logarithms: which of them it was is told by the layer that follows."""
    seen, on = watched(), [False]
    model = nn.Sequential(nn.Linear(8, 16), Logarithm(on), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for n in range(8):
        on[0] = n >= 6
        optimizer.zero_grad()
        model(torch.randn(32, 8)).square().mean().backward()
        optimizer.step()
    found = reports(seen)[0]
    assert (found.verdict, found.first_forward) == ("layer", "1.project"), found.text
