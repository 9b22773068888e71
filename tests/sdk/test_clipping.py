"""The user's own clipping: its norms are ours for nothing, whoever calls it and however."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import utils
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from nanwatch.probes import gradients
from sdk.watched import Watched

Watch = Callable[..., Watched]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many gradients each pass of our own read."""
    found: list[int] = []
    original = gradients._norms_of

    def counted(tensors: list[Any]) -> list[Any]:
        found.append(len(tensors))
        return original(tensors)

    monkeypatch.setattr(gradients, "_norms_of", counted)
    yield found


def net(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 1)).to(dtype)


def backward(model: nn.Module, n: int) -> None:
    dtype = next(model.parameters()).dtype
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(n)).to(dtype)
    (model(x) - 3 * x.sum(1, keepdim=True)).square().mean().backward()


def norms_of(model: nn.Module) -> dict[str, float]:
    """Layer → norm, and the total under ``, by plain arithmetic in float64."""
    found = {
        name: math.sqrt(
            sum(
                p.grad.double().square().sum().item()
                for p in layer.parameters()
                if p.grad is not None
            )
        )
        for name, layer in model.named_children()
        if any(p.grad is not None for p in layer.parameters())
    }
    return {"": math.hypot(*found.values()), **found}


def assert_series(seen: Watched, expected: list[dict[str, float]], rel: float = 1e-5) -> None:
    for layer in expected[0]:
        found = seen.values("grad_norm_layer" if layer else "grad_norm", layer=layer)
        assert found == pytest.approx([each[layer] for each in expected], rel=rel), layer


def by_the_public_pair(parameters: list[Any], bound: float) -> None:
    total = utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    utils.clip_grads_with_norm_(parameters, bound, total)


def by_another_order(parameters: list[Any], bound: float) -> None:
    total = utils.get_total_norm([p.grad for p in reversed(parameters)])
    utils.clip_grads_with_norm_(parameters, bound, total)


@pytest.mark.parametrize(
    "clip",
    [
        clip_grad_norm_,
        lambda p, bound: clip_grad_norm_(iter(p), bound),
        lambda p, bound: clip_grad_norm_(p, bound, foreach=True),
        by_the_public_pair,
        by_another_order,
    ],
)
def test_norms_come_from_the_clip_call_and_cost_no_pass(
    watched: Watch, passes: list[int], clip: Callable[[list[Any], float], Any]
) -> None:
    seen = watched()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    expected: list[dict[str, float]] = []
    after: list[float] = []
    for n in range(12):
        optimizer.zero_grad()
        backward(model, n)
        expected.append(norms_of(model))
        clip(list(model.parameters()), 0.5)
        after.append(norms_of(model)[""])
        optimizer.step()
    assert_series(seen.read(), expected)
    assert passes == []
    assert seen.values("grad_norm_clipped") == pytest.approx(after, rel=1e-4)


@pytest.mark.parametrize("how", ["foreach=False", "inf norm", "float16"])
def test_norms_that_the_clip_call_does_not_give_are_measured_before_it(
    watched: Watch, passes: list[int], how: str
) -> None:
    seen = watched()
    model = net(dtype=torch.float16 if how == "float16" else torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    expected: dict[int, dict[str, float]] = {}
    for n in range(12):
        optimizer.zero_grad()
        backward(model, n)
        expected[n + 1] = norms_of(model)
        parameters = list(model.parameters())
        if how == "foreach=False":
            clip_grad_norm_(parameters, 0.01, foreach=False)
        else:
            clip_grad_norm_(parameters, 0.01, math.inf if how == "inf norm" else 2.0)
        optimizer.step()
    found = seen.read().series("grad_norm")
    assert len(found) >= 3 and len(found) == len(passes), "by a pass, as often as it is due"
    for step, value in found:
        assert value == pytest.approx(expected[step][""], rel=2e-3)
    assert seen.values("clip_threshold") == [0.01] * 12
    if how != "foreach=False":
        assert seen.values("grad_norm_clipped") == [], "the L2 norm after it is not known"


def test_a_frozen_layer_and_an_unused_one_change_nothing_of_the_others(watched: Watch) -> None:
    seen = watched()
    model = net()
    for parameter in model[2].parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    expected: list[dict[str, float]] = []
    for n in range(6):
        if n == 3:
            for parameter in model[2].parameters():
                parameter.requires_grad_(True)
        optimizer.zero_grad()
        backward(model, n)
        expected.append(norms_of(model))
        clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    seen.read()
    assert_series(seen, [{k: v for k, v in each.items() if k != "2"} for each in expected])
    late = seen.series("grad_norm_layer", layer="2")
    assert [step for step, _ in late] == [4, 5, 6]
    assert [v for _, v in late] == pytest.approx([each["2"] for each in expected[3:]], rel=1e-5)


def test_one_clip_for_two_optimizers_and_two_clips_for_one(watched: Watch) -> None:
    seen = watched()
    policy, critic = net(1), net(2)
    together = [*critic.parameters(), *policy.parameters()]
    run = seen.run
    run.watch(policy=policy, critic=critic)
    first = torch.optim.SGD(policy.parameters(), 0.01)
    second = torch.optim.SGD(critic.parameters(), 0.01)
    expected: dict[str, list[dict[str, float]]] = {"policy": [], "critic": []}
    for n in range(8):
        for model, optimizer in ((policy, first), (critic, second)):
            optimizer.zero_grad()
            backward(model, n)
        expected["policy"].append(norms_of(policy))
        expected["critic"].append(norms_of(critic))
        if n % 2:
            clip_grad_norm_(together, 0.1)
        else:
            clip_grad_norm_([*critic[0].parameters(), *policy[0].parameters()], 0.1)
            rest = [
                p
                for p in together
                if not any(p is q for m in (critic, policy) for q in m[0].parameters())
            ]
            clip_grad_norm_(rest, 0.1)
        first.step()
        second.step()
    seen.read()
    for scope, each in expected.items():
        for layer in each[0]:
            kind = "grad_norm_layer" if layer else "grad_norm"
            assert seen.values(kind, scope, layer) == pytest.approx(
                [norms[layer] for norms in each], rel=1e-5
            ), (scope, layer)


def test_clipping_by_value_is_seen_and_measured_before_it(watched: Watch) -> None:
    seen = watched()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    expected: dict[int, float] = {}
    for n in range(201):
        optimizer.zero_grad()
        backward(model, n)
        expected[n + 1] = norms_of(model)[""]
        clip_grad_value_(model.parameters(), 1e-3)
        optimizer.step()
    found = seen.read().series("grad_norm")
    assert len(found) >= 20
    for step, value in found:
        assert value == pytest.approx(expected[step], rel=1e-5)
    assert seen.values("clip_threshold") == [], "a bound on values is no bound on the norm"
    coverage = [mark.data for mark in seen.marks if mark.what == "coverage"]
    assert "values at 0.001" in coverage[-1]["clipping"]


def test_an_error_for_non_finite_norms_is_the_users_own(watched: Watch) -> None:
    seen = watched()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for n in range(3):
        optimizer.zero_grad()
        backward(model, n)
        if n == 1:
            model[0].weight.grad[0, 0] = math.inf
            with pytest.raises(RuntimeError, match="non-finite"):
                clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
            assert math.isinf(model[0].weight.grad[0, 0]), "nothing was clipped"
            continue
        clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
    seen.read()
    assert seen.values("update_applied") == [1.0, 0.0, 1.0]
    assert [math.isfinite(v) for v in seen.values("grad_norm")] == [True, False, True]


def test_torch_is_put_back_as_it_was() -> None:
    import torch.nn.utils.clip_grad as module

    before = {name: getattr(module, name) for name in dir(module)}
    public = (utils.get_total_norm, utils.clip_grads_with_norm_, torch.stack, torch._foreach_norm)
    from nanwatch.probes.clipping import ClippingProbe

    probe = ClippingProbe(lambda *_: None, lambda *_: None, lambda: True)
    probe.install()
    assert utils.get_total_norm is not public[0]
    model = net()
    backward(model, 0)
    clip_grad_norm_(model.parameters(), 1.0)
    probe.remove()
    assert {name: getattr(module, name) for name in dir(module)} == before
    assert public == (
        utils.get_total_norm,
        utils.clip_grads_with_norm_,
        torch.stack,
        torch._foreach_norm,
    )


def test_parameters_added_since_the_last_clip_are_not_counted_under_old_names(
    watched: Watch,
) -> None:
    """Gradual unfreezing: the attempt after it is clipped, and skipped by hand."""
    seen = watched()
    model = net()
    optimizer = torch.optim.SGD([*model[0].parameters(), *model[2].parameters()], 0.01)
    for n in range(4):
        optimizer.zero_grad()
        backward(model, n)
        clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 0.1)
        optimizer.step()
    model.zero_grad()
    optimizer.add_param_group({"params": list(model[3].parameters())})
    expected: list[dict[str, float]] = []
    for n in range(4, 8):
        backward(model, n)
        expected.append(norms_of(model))
        clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 0.1)
        if n > 4:
            optimizer.step()
        optimizer.zero_grad()
    seen.read()
    for layer in ("0", "2", "3"):
        found = [v for step, v in seen.series("grad_norm_layer", layer=layer) if step > 6]
        assert found == pytest.approx([each[layer] for each in expected[2:]], rel=1e-5), layer
    total = [v for step, v in seen.series("grad_norm") if step > 6]
    assert total == pytest.approx([each[""] for each in expected[2:]], rel=1e-5)
