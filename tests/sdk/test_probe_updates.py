"""Weight updates against a plain computation: copies before and after the step, float64 norms."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

import nanwatch
from nanwatch.probes import passes
from nanwatch.probes.updates import Updates
from sdk.watched import Watched

pytestmark = pytest.mark.usefixtures("every_attempt")

Make = Callable[..., Watched]


class Net(torch.nn.Module):
    """Two layers; `out.bias` stays frozen."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.body = torch.nn.Linear(4, width)
        self.out = torch.nn.Linear(width, 1)
        self.out.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.body(x)))


def norm(tensors: list[torch.Tensor]) -> float:
    wide = torch.complex128 if tensors and tensors[0].is_complex() else torch.float64
    return math.sqrt(sum(float(t.detach().to(wide).abs().square().sum()) for t in tensors))


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def train(
    model: torch.nn.Module,
    optimizer: Any,
    steps: int = 5,
    *,
    closure: bool = False,
    dtype: torch.dtype = torch.float32,
) -> list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """(weights before, weights after) of every step."""
    generator = torch.Generator().manual_seed(7)
    seen = []
    for _ in range(steps):
        x = torch.randn(16, 4, generator=generator).to(dtype)

        def loss_of(x: torch.Tensor = x) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            return loss

        before = weights(model)
        if closure:
            optimizer.step(loss_of)
        else:
            loss_of()
            optimizer.step()
        seen.append((before, weights(model)))
    return seen


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "sgd fused": lambda p: torch.optim.SGD(p, 0.1, fused=True),
    "adam foreach": lambda p: torch.optim.Adam(p, 1e-2, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.3, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.5, max_iter=3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norms_and_ratios_are_those_of_a_plain_computation(watched: Make, name: str) -> None:
    seen = watched()
    torch.manual_seed(0)
    model = Net()
    # LBFGS and clipping by hand would move frozen weights as little as anyone else.
    optimizer = OPTIMIZERS[name]([p for p in model.parameters() if p.requires_grad])
    steps = train(model, optimizer, closure=name == "lbfgs")
    seen.read()
    # The gradients of the first closure are known only inside the step: from the second on.
    first = 1 if name == "lbfgs" else 0
    for kind, expected in {
        "update_norm": lambda b, a: norm([a[n] - b[n] for n in b]),
        "param_norm": lambda b, a: norm([b[n] for n in b if n != "out.bias"]),
    }.items():
        want = [expected(before, after) for before, after in steps][first:]
        assert seen.values(kind)[-len(want) :] == pytest.approx(want, rel=1e-5)
    for layer, names in {"body": ["body.weight", "body.bias"], "out": ["out.weight"]}.items():
        moved = [norm([a[n] - b[n] for n in names]) for b, a in steps][first:]
        held = [norm([b[n] for n in names]) for b, _ in steps][first:]
        assert seen.values("update_norm_layer", "", layer) == pytest.approx(moved, rel=1e-5)
        assert seen.values("param_norm_layer", "", layer)[-len(held) :] == pytest.approx(held)
        ratios = [m / h for m, h in zip(moved, held, strict=True)]
        assert seen.series("update_ratio_layer", "", layer) == [
            (n, pytest.approx(ratio, rel=1e-5)) for n, ratio in enumerate(ratios, start=1 + first)
        ]


def test_a_commanded_factor_is_in_the_update(watched: Make) -> None:
    from nanwatch.control.learning_rate import set_factor

    seen = watched()
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(model, optimizer, 1)
    set_factor(optimizer, 0.25)
    ((before, after),) = train(model, optimizer, 1)
    gradient = norm([p.grad for p in model.parameters() if p.grad is not None])
    moved = norm([after[n] - before[n] for n in before])
    assert moved == pytest.approx(0.025 * gradient, rel=1e-4)
    assert seen.read().values("update_norm")[1] == pytest.approx(moved, rel=1e-5)


def test_frozen_layers_have_weights_but_no_updates(watched: Make) -> None:
    seen = watched()
    model = Net()
    for parameter in model.body.parameters():
        parameter.requires_grad_(False)
    train(model, torch.optim.SGD(model.parameters(), 0.1), 3)
    seen.read()
    assert len(seen.values("param_norm_layer", "", "body")) == 3
    assert not seen.values("update_norm_layer", "", "body")
    assert not seen.values("update_ratio_layer", "", "body")
    assert len(seen.values("update_ratio_layer", "", "out")) == 3


def test_a_frozen_mask_of_infinities_is_no_trouble_and_has_no_size(watched: Make) -> None:
    seen = watched()
    model = Net()
    mask = torch.nn.Parameter(torch.tensor([0.0, -math.inf]), requires_grad=False)
    model.mask = mask
    train(model, torch.optim.SGD(model.parameters(), 0.1), 3)
    seen.read()
    assert all(math.isfinite(value) for value in seen.values("param_norm"))
    assert not [report for report in seen.reports if report.where == "parameter"]
    with torch.no_grad():
        mask[0] = math.nan
    train(model, torch.optim.SGD(model.parameters(), 0.1), 1)
    assert [report.layers for report in seen.read().reports] == [["mask"]], "NaN is no mask"


def test_a_layer_that_begins_at_zero_has_no_ratio_before_it_has_weights(watched: Make) -> None:
    seen = watched()
    model = Net()
    torch.nn.init.zeros_(model.out.weight)
    torch.nn.init.zeros_(model.out.bias)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        ((model(torch.randn(8, 4)) - 1) ** 2).mean().backward()
        optimizer.step()
    assert [step for step, _ in seen.read().series("update_ratio_layer", "", "out")] == [2, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(watched: Make, dtype: torch.dtype) -> None:
    seen = watched()
    torch.manual_seed(0)
    model = Net().to(dtype)
    steps = train(model, torch.optim.SGD(model.parameters(), 0.1), 3, dtype=dtype)
    seen.read()
    want = [norm([after[n] - before[n] for n in before]) for before, after in steps]
    assert seen.values("update_norm") == pytest.approx(want, rel=1e-2)
    held = [norm(list(before.values())) for before, _ in steps]
    assert seen.values("param_norm") == pytest.approx(held, rel=1e-5)


def test_norms_of_half_precision_do_not_overflow(watched: Make) -> None:
    seen = watched()
    weight = torch.nn.Parameter(torch.full((4096,), 60000.0, dtype=torch.float16))
    optimizer = torch.optim.SGD([weight], 1.0)
    for _ in range(2):
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()
    assert seen.read().values("param_norm")[0] == pytest.approx(60000 * 64, rel=1e-3)


def test_odd_tensors_complex_scalar_empty_and_shared(watched: Make) -> None:
    seen = watched()
    torch.manual_seed(0)

    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Parameter(torch.randn(3, dtype=torch.complex64))
            self.b = torch.nn.Parameter(torch.tensor(2.0))
            self.c = torch.nn.Parameter(torch.empty(0))
            self.inner = torch.nn.Linear(2, 2, bias=False)
            self.again = self.inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.again(self.inner(x)).sum() * self.b + self.c.sum()
            return out + self.a.abs().square().sum()

    model = Odd()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    want = []
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 2)).backward()
        before = weights(model)
        optimizer.step()
        after = weights(model)
        want.append(math.hypot(*(norm([after[n] - before[n]]) for n in before)))
    assert seen.read().values("update_norm") == pytest.approx(want, rel=1e-5)


def test_sparse_embedding(watched: Make) -> None:
    seen = watched()
    table = torch.nn.Embedding(20, 3, sparse=True)
    optimizer = torch.optim.SparseAdam(list(table.parameters()), 0.1)
    for n in range(3):
        optimizer.zero_grad()
        table(torch.tensor([n, 4])).square().sum().backward()
        before = table.weight.detach().clone()
        optimizer.step()
        last = norm([table.weight.detach() - before])
    assert seen.read().values("update_norm")[-1] == pytest.approx(last, rel=1e-5)


def test_several_optimizers_each_have_their_own(watched: Make) -> None:
    seen = watched()
    torch.manual_seed(0)
    policy, critic = Net(), Net(9)
    policy_optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    critic_optimizer = torch.optim.SGD(critic.parameters(), 1e-1)
    want: dict[str, list[float]] = {"policy": [], "critic": []}
    for _ in range(4):
        for name, model, optimizer in (
            ("critic", critic, critic_optimizer),
            ("policy", policy, policy_optimizer),
        ):
            optimizer.zero_grad()
            (model(torch.randn(8, 4)) ** 2).mean().backward()
            before = weights(model)
            optimizer.step()
            after = weights(model)
            want[name].append(norm([after[n] - before[n] for n in before]))
    seen.read()
    for name, values in want.items():
        assert seen.values("update_norm", name) == pytest.approx(values, rel=1e-5)


def test_parameters_that_join_later(watched: Make) -> None:
    seen = watched()
    model, more = Net(), Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(model, optimizer, 2)
    optimizer.add_param_group({"params": list(more.parameters())})
    optimizer.zero_grad()
    ((model(torch.randn(8, 4)) + more(torch.randn(8, 4))) ** 2).mean().backward()
    held = norm(list(weights(model).values()) + list(weights(more).values()))
    optimizer.step()
    assert seen.read().values("param_norm")[-1] == pytest.approx(held)


def test_the_next_fold_is_measured_and_the_last_one_is_let_go(watched: Make) -> None:
    seen = watched()

    def fold() -> weakref.ref[Any]:
        model = Net()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            (model(torch.randn(8, 4)) ** 2).mean().backward()
            optimizer.step()
        return weakref.ref(model.body.weight)

    first = fold()
    second = fold()
    gc.collect()
    assert first() is None and second() is None
    assert len(seen.read().values("update_norm")) == 120


def test_large_models_go_window_by_window(watched: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "BYTES_MOST_HOST", 200)
    seen = watched()
    torch.manual_seed(0)
    model = Net(40)  # body.weight alone is 640 bytes: it is cut into rows
    steps = train(model, torch.optim.SGD(model.parameters(), 1e-3), 24)
    seen.read()
    total, steady = seen.series("param_norm"), dict(enumerate(steps, start=1))
    rounds = [step for step, _ in total]
    assert 3 <= len(rounds) <= 6 and rounds[0] >= 4
    for step, value in total:
        # Weights hardly move within one round.
        assert value == pytest.approx(norm(list(steady[step][0].values())), rel=1e-3)
    ratio = seen.series("update_ratio_layer", "", "body")
    assert [step for step, _ in ratio] and len(ratio) == len(rounds)
    before, after = steady[ratio[-1][0]]
    names = ["body.weight", "body.bias"]
    moved = norm([after[n] - before[n] for n in names]) / norm([before[n] for n in names])
    assert ratio[-1][1] == pytest.approx(moved, rel=0.5)
    (probe,) = [p for p in seen.run.observer.probes.active if isinstance(p, Updates)]
    assert "a part of the layers at a time" in probe.coverage()


def test_a_step_that_makes_weights_nan_is_reported_once_with_their_names(watched: Make) -> None:
    seen = watched()
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(model, optimizer, 2)
    optimizer.zero_grad()
    (model(torch.randn(8, 4)) ** 2).mean().backward()
    assert model.body.bias.grad is not None
    model.body.bias.grad[1] = float("nan")
    optimizer.step()
    train(model, optimizer, 2)
    seen.read()
    assert math.isnan(seen.values("param_norm")[2]) and math.isnan(seen.values("update_norm")[2])
    assert math.isnan(seen.values("update_ratio_layer", "", "body")[2])
    assert math.isfinite(seen.values("update_ratio_layer", "", "out")[2])
    (report,) = [r for r in seen.reports if r.where == "parameter"]
    assert (report.step, report.layers, report.nan) == (3, ["body.bias"], 1)


def test_a_step_that_writes_nothing_is_seen_at_every_attempt(
    watched: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanwatch.probes.overhead import Cadence

    monkeypatch.setattr(Cadence, "due", lambda cadence, *of: False)
    seen = watched()
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, foreach=True)
    train(model, optimizer, 5)
    for n in range(4):
        loss = (model(torch.randn(8, 4)) ** 2).mean()
        loss.backward()
        if n >= 2:
            for parameter in model.parameters():
                parameter.grad = None
        optimizer.step()
    assert seen.read().series("update_norm") == [(8, 0.0), (9, 0.0)]


def test_fused_optimizers_go_round_the_counters_and_are_not_judged(
    watched: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanwatch.probes.overhead import Cadence

    monkeypatch.setattr(Cadence, "due", lambda cadence, *of: False)
    seen = watched()
    model = Net()
    train(model, torch.optim.AdamW(model.parameters(), 1e-2, fused=True), 10)
    assert not seen.read().values("update_norm")


def test_a_step_that_raises_leaves_nothing_behind(watched: Make) -> None:
    seen = watched()
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(model, optimizer, 1)

    def broken() -> float:
        raise RuntimeError("closure of the user")

    with pytest.raises(RuntimeError, match="closure of the user"):
        optimizer.step(broken)
    train(model, optimizer, 2)
    assert [step for step, _ in seen.read().series("update_norm")] == [1, 2, 3]


def test_models_stay_as_they_are(watched: Make) -> None:
    watched(control=nanwatch.Control())
    model = Net()
    train(model, torch.optim.SGD(model.parameters(), 0.1), 2)
    twin = copy.deepcopy(model)
    assert not model._forward_hooks and not model._backward_hooks
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )
