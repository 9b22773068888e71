"""Watching calls of modules changes nothing about them: copies, pickles, compilers, transforms."""

from __future__ import annotations

import copy
import gc
import io
import pickle  # noqa: TID251 - users pickle their models
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from nanwatch.probes.calls import ATTRIBUTE, Calls, Door, Listener, Watch, calls_of
from nanwatch.probes.catalogue import PROBES
from sdk.watched import Watched

Make = Callable[..., Watched]


class Ears(Listener):
    """Writes down what it hears."""

    name: ClassVar[str] = "ears"
    heard: ClassVar[list[tuple[str, bool]]] = []

    def called(self, watch: Watch, output: Any, with_grad: bool) -> None:
        self.heard.append((watch.name, with_grad))


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """(name, with gradients) of each call that was passed on."""
    Ears.heard = []
    monkeypatch.setattr("nanwatch.probes.observer.PROBES", (*PROBES, Ears))
    return Ears.heard


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.body(x) * scale


def step(model: Any, optimizer: Any, x: torch.Tensor | None = None) -> None:
    optimizer.zero_grad()
    model(torch.randn(6, 4) if x is None else x).square().mean().backward()
    optimizer.step()


def trained(model: Any, steps: int = 2) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    for _ in range(steps):
        step(model, optimizer)
    return optimizer


def doors() -> list[type]:
    """Classes of modules that have a door of ours."""
    found, stack = [], [nn.Module]
    while stack:
        kind = stack.pop()
        stack += kind.__subclasses__()
        if isinstance(kind.__dict__.get(ATTRIBUTE), Door):
            found.append(kind)
    return found


def test_calls_are_heard_with_arguments_result_and_exception_untouched(
    watched: Make, heard: list[Any]
) -> None:
    seen = watched()
    model = Net()
    kept = trained(model, 1)
    heard.clear()
    x = torch.randn(3, 4)
    assert torch.equal(model(x, scale=2.0), model.forward(x, 2.0))
    with torch.no_grad():
        model(x)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.randn(3, 5))
    with pytest.raises(TypeError, match="unexpected keyword"):
        model(x, volume=1)
    assert heard == [("model", True), ("model", False)]
    assert doors() == [Net]
    seen.run.hooks.remove()
    assert doors() == []
    model(x)
    assert len(heard) == 2 and kept


def test_a_root_of_a_class_of_torch_leaves_inner_modules_of_that_class_alone(
    watched: Make, heard: list[Any]
) -> None:
    watched()
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 1))
    other = nn.Linear(4, 1)
    kept = [trained(other, 1), trained(model, 1)]
    heard.clear()
    model(torch.randn(2, 4))
    other(torch.randn(2, 4))
    assert [name for name, _ in heard] == ["model", "other"] and kept


def test_a_subclass_that_calls_its_parent_is_heard_once(watched: Make, heard: list[Any]) -> None:
    class Sub(Net):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs) + 1

        def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return super().forward(x, scale) + 1

    watched()
    model, base = Sub(), Net()
    kept = [trained(base, 1), trained(model, 1)]
    heard.clear()
    x = torch.randn(2, 4)
    assert torch.equal(model(x), model.body(x) + 1 + 1)
    base(x)
    assert [name for name, _ in heard] == ["model", "base"] and kept


def test_copies_and_pickles_know_nothing_of_us(watched: Make, heard: list[Any]) -> None:
    watched()
    model = Net()
    optimizer = trained(model)
    before = set(model.__dict__)
    heard.clear()
    twins = [copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))]  # noqa: S301
    saved = io.BytesIO()
    torch.save(model, saved)
    assert b"nanwatch" not in saved.getvalue()
    twins.append(torch.load(io.BytesIO(saved.getvalue()), weights_only=False))
    clone = Net.__new__(Net)  # learn2learn's clone_module
    clone.__dict__ = {**model.__dict__, "_modules": {}}
    clone.body = copy.deepcopy(model.body)
    for parameter in clone.parameters():
        parameter.data.zero_()
    x = torch.randn(3, 4)
    assert torch.equal(clone(x), torch.zeros(3, 1)), "a clone answers for itself"
    for twin in twins:
        assert torch.equal(twin(x), model.forward(x))
    assert not heard and set(model.__dict__) == before
    step(model, optimizer)
    assert heard


def test_classes_pickled_by_value_do_not_bring_us_along(watched: Make) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    space: dict[str, Any] = {"nn": nn, "__name__": "__main__"}
    exec("class Own(nn.Linear):\n    pass", space)  # noqa: S102
    watched()
    model = space["Own"](4, 1)
    trained(model)
    text = cloudpickle.dumps(model)
    assert b"nanwatch" not in text
    assert cloudpickle.loads(text)(torch.zeros(1, 4)).shape == (1, 1)


def test_data_parallel_replicas_answer_for_themselves(watched: Make, heard: list[Any]) -> None:
    watched()
    model = Net()
    kept = trained(model)
    heard.clear()
    replica: Any = model._replicate_for_data_parallel()
    replica.body = nn.Identity()
    x = torch.randn(3, 4)
    assert torch.equal(replica(x), x)
    assert not heard and kept


def test_scripted_and_traced_modules(watched: Make, heard: list[Any]) -> None:
    watched()
    model = Net()
    kept = trained(model)
    x = torch.randn(3, 4)
    expected = model.forward(x)
    heard.clear()
    assert torch.equal(torch.jit.script(model)(x), expected)
    trace: Any = torch.jit.trace
    assert torch.equal(trace(model, (x,), check_trace=False)(x), expected)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), expected)
    assert not heard and kept
    scripted = torch.jit.script(Net())
    optimizer = torch.optim.SGD(scripted.parameters(), 1e-2)
    for _ in range(3):
        step(scripted, optimizer)
    assert len(heard) == 2


def test_function_transforms_are_left_alone(watched: Make, heard: list[Any]) -> None:
    from torch.func import functional_call, grad, vmap

    watched()
    model = Net()
    kept = trained(model)
    heard.clear()
    weights = {name: p.detach() + 1 for name, p in model.named_parameters()}
    x = torch.randn(5, 4)
    out = functional_call(model, weights, (x,))
    each = vmap(lambda one: functional_call(model, weights, (one,)))(x)
    assert torch.allclose(out, each)
    grad(lambda w: functional_call(model, w, (x,)).sum())(weights)
    assert not heard, "parameters of someone else stood in the model"
    model(x)
    assert len(heard) == 1 and kept


def test_recomputation_in_backward_is_no_call(watched: Make, heard: list[Any]) -> None:
    from torch.utils.checkpoint import checkpoint

    watched()
    model = Net()
    optimizer = trained(model)
    heard.clear()
    for _ in range(3):
        out: Any = checkpoint(model, torch.randn(6, 4), use_reentrant=False)
        optimizer.zero_grad()
        out.square().mean().backward()
        optimizer.step()
    assert [name for name, _ in heard] == ["model"] * 3


def test_models_die_when_the_user_lets_go(watched: Make, heard: list[Any]) -> None:
    seen = watched()
    model = Net()
    optimizer = trained(model)
    gone = weakref.ref(model)
    weight = weakref.ref(model.body[0].weight)
    gc.collect()
    gc.disable()
    try:
        del model, optimizer
        assert gone() is None and weight() is None
    finally:
        gc.enable()
    assert not calls_of(seen.run.observer).watches


def test_a_listener_that_fails_is_told_no_more(
    watched: Make, heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanwatch.guard import GUARD, Guard

    def fail(*_: Any) -> None:
        raise ValueError("broken")

    seen = watched()
    model = Net()
    optimizer = trained(model)
    monkeypatch.setattr(Guard, "reraise", False)
    monkeypatch.setattr(Ears, "called", fail)
    for _ in range(3):
        step(model, optimizer)
    assert GUARD.counts == {"probe ears:ValueError": 1}
    GUARD.clear()
    assert len(seen.read().series("loss")) == 5


# --- torch.compile -------------------------------------------------------------------------------


@pytest.fixture
def dynamo() -> Any:
    import torch._dynamo as dynamo
    from torch._dynamo.utils import counters

    dynamo.reset()
    counters.clear()
    yield counters
    dynamo.reset()
    counters.clear()


def compilations(counters: Any) -> tuple[int, int, int]:
    """(graphs, frames, graph breaks) so far."""
    return (
        counters["stats"]["unique_graphs"],
        counters["frames"]["total"],
        sum(counters["graph_break"].values()),
    )


def doubled(module: nn.Module, args: Any, out: Any) -> Any:
    return out * 2


class Hooked(nn.Module):
    """A module whose parts have hooks of the user, which Dynamo then looks at more closely."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Net(), Net()
        self.a.register_forward_hook(doubled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) + self.b(x)


def by_wrapper(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def in_place(model: nn.Module) -> Any:
    model.compile(backend="eager")
    return model


def in_a_function(model: nn.Module) -> Any:
    call = torch.compile(lambda x: model(x) + 1, backend="eager", fullgraph=True)

    class Outside:
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return call(x)

        def parameters(self) -> Any:
            return model.parameters()

    return Outside()


def compiled_run(
    build: Callable[[], nn.Module], way: Callable[[nn.Module], Any], eager_steps: int
) -> list[torch.Tensor]:
    """Train eagerly, compile, train on, beside a plain model of the same class."""
    torch.manual_seed(0)
    model, plain = build(), Net()
    optimizer = trained(model, max(1, eager_steps)) if eager_steps else None
    compiled = way(model)
    if optimizer is None:
        optimizer = torch.optim.SGD(compiled.parameters(), 1e-2)
    other = torch.optim.SGD(plain.parameters(), 1e-2)
    for _ in range(6):
        step(compiled, optimizer)
        step(plain, other)
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("eager_steps", [0, 3])
@pytest.mark.parametrize("build", [Net, Hooked])
@pytest.mark.parametrize("way", [by_wrapper, in_place, in_a_function])
def test_compiled_models_compile_as_if_we_were_not_there(
    watched: Make,
    heard: list[Any],
    dynamo: Any,
    way: Callable[[nn.Module], Any],
    build: Callable[[], nn.Module],
    eager_steps: int,
) -> None:
    import torch._dynamo

    expected = compiled_run(build, way, eager_steps)
    without = compilations(dynamo)
    torch._dynamo.reset()
    dynamo.clear()
    seen = watched()
    found = compiled_run(build, way, eager_steps)
    assert compilations(dynamo) == without
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    names = [name for name, _ in heard]
    assert "plain" in names
    if way is not in_a_function:
        # Seen from outside, and its parts not at all.
        assert {"compiled", "model"} & set(names)
    assert calls_of(seen.run.observer).coverage() == ""


@pytest.mark.parametrize("way", [by_wrapper, in_place, in_a_function])
@pytest.mark.parametrize("who", ["a library", "armed tracing"])
def test_what_is_compiled_while_calls_are_replaced(
    watched: Make,
    dynamo: Any,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[nn.Module], Any],
    who: str,
) -> None:
    """Then Dynamo takes in what it otherwise leaves out, and with it our door."""
    import torch._dynamo

    original: Any = nn.Module.__call__
    if who == "a library":
        monkeypatch.setattr(nn.Module, "__call__", lambda s, *a, **k: original(s, *a, **k))
    expected = compiled_run(Net, way, 3)
    torch._dynamo.reset()
    dynamo.clear()
    seen = watched()
    forensics = seen.run.forensics
    assert forensics is not None
    if who == "armed tracing":
        forensics.arm_by_command(50)
    try:
        found = compiled_run(Net, way, 3)
    finally:
        forensics.tracer.disarm()
    graphs, _, breaks = compilations(dynamo)
    assert (graphs, breaks) == (1, 0)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_critic_compiled_beside_its_plain_target(watched: Make, dynamo: Any) -> None:
    """The target is a root of the class that is traced in the critic."""

    def run() -> list[torch.Tensor]:
        torch.manual_seed(0)
        inner = Net()
        target_q = copy.deepcopy(inner)
        q = torch.compile(inner, backend="eager", fullgraph=True)
        optimizer = torch.optim.SGD(inner.parameters(), 1e-2)
        for _ in range(6):
            x = torch.randn(6, 4)
            with torch.no_grad():
                goal = target_q(x)
            optimizer.zero_grad()
            (q(x) - 0.9 * goal - 1).square().mean().backward()
            optimizer.step()
        return [p.detach().clone() for p in inner.parameters()]

    import torch._dynamo

    expected, without = run(), compilations(dynamo)
    torch._dynamo.reset()
    dynamo.clear()
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    found = run()
    assert compilations(dynamo) == without
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    seen.read()
    assert len(seen.series("q_mean", "q")) == 5 == len(seen.series("q_target_mean", "q"))


def test_the_mechanism_says_so_where_torch_is_too_old(
    watched: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(nn.Module, ATTRIBUTE)
    seen = watched()
    (calls,) = (p for p in seen.run.observer.probes.active if isinstance(p, Calls))
    calls.named()
    assert calls.coverage().startswith("off") and not doors()
