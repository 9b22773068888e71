"""Moments and Adam's RMS against a plain computation after arXiv:2304.13013, section 3."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sdk.watched import Watched

pytestmark = pytest.mark.usefixtures("every_attempt")

Make = Callable[..., Watched]


def make_model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def wide_norm(tensors: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))


def rms(optimizer: Any, parameters: list[torch.Tensor], scale: float = 1.0) -> float:
    """RMS_t after the step, in the very words of the paper: u_t holds this gradient already."""
    total, count = 0.0, 0
    group = optimizer.param_groups[0]
    for p in parameters:
        state = optimizer.state[p]
        corrected = state["exp_avg_sq"].double() / (1 - group["betas"][1] ** float(state["step"]))
        assert p.grad is not None
        squares = (p.grad.detach().double() / scale).square()
        total += float((squares / corrected.clamp(min=group["eps"] ** 2)).sum())
        count += p.numel()
    return math.sqrt(total / count)


ADAMS = {
    "adam": lambda p: torch.optim.Adam(p, 1e-2),
    "adamw foreach": lambda p: torch.optim.AdamW(p, 1e-2, betas=(0.9, 0.95), foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, 1e-2, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, 1e-2, amsgrad=True),
    "nadam": lambda p: torch.optim.NAdam(p, 1e-2),
    "radam": lambda p: torch.optim.RAdam(p, 1e-2),
}


@pytest.mark.parametrize("name", ADAMS)
def test_rms_is_that_of_the_paper(watched: Make, name: str) -> None:
    seen = watched()
    model = make_model()
    optimizer = ADAMS[name](model.parameters())
    whole, layer = [], []
    for n in range(6):
        optimizer.zero_grad()
        (model(torch.randn(16, 4)) * (1 + 9 * (n == 4))).square().mean().backward()
        optimizer.step()
        whole.append(rms(optimizer, list(model.parameters())))
        layer.append(rms(optimizer, list(model[2].parameters())))
    seen.read()
    # Before its first step an optimizer has no state.
    assert seen.series("adam_rms") == [
        (n, pytest.approx(value, rel=1e-4)) for n, value in enumerate(whole, start=1) if n > 1
    ]
    assert seen.values("adam_rms_layer", "", "2") == pytest.approx(layer[1:], rel=1e-4)
    assert whole[4] > 2 * whole[3]  # a batch ten times as large is what it is there to show


def test_rms_of_gradients_that_come_into_being_inside_the_step(watched: Make) -> None:
    seen = watched()
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    want = []
    for _ in range(5):
        x = torch.randn(16, 4)

        def closure(x: torch.Tensor = x) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        want.append(rms(optimizer, list(model.parameters())))
    assert seen.read().values("adam_rms") == pytest.approx(want, rel=1e-4)


def test_units_that_never_got_a_gradient_count_as_nothing(watched: Make) -> None:
    seen = watched()
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        x = torch.randn(16, 4)
        x[:, 0] = 0
        model(x).square().mean().backward()
        optimizer.step()
    value = rms(optimizer, list(model.parameters()))
    assert seen.read().values("adam_rms")[-1] == pytest.approx(value, rel=1e-4)


def test_scaled_gradients_of_a_fused_optimizer_are_divided(watched: Make) -> None:
    seen = watched()
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    want = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(torch.randn(16, 4)).square().mean()
        plain = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        for p, g in zip(model.parameters(), plain, strict=True):
            p.grad = g
        want.append(rms(optimizer, list(model.parameters())))
    assert seen.read().values("adam_rms") == pytest.approx(want[1:], rel=1e-4)


@pytest.mark.parametrize(
    ("make", "states"),
    [
        (lambda p: torch.optim.AdamW(p, 1e-2), {"exp_avg", "exp_avg_sq"}),
        (lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9), {"momentum_buffer"}),
        (lambda p: torch.optim.RMSprop(p, 1e-2, momentum=0.5), {"square_avg", "momentum_buffer"}),
        (lambda p: torch.optim.Adagrad(p, 1e-2), {"sum"}),
    ],
)
def test_norms_of_every_state_before_the_step(
    watched: Make, make: Callable[[Any], Any], states: set[str]
) -> None:
    seen = watched()
    model = make_model()
    optimizer = make(model.parameters())
    want: dict[str, list[float]] = {state: [] for state in states}
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        for state, found in want.items():
            tensors = [optimizer.state[p][state] for p in model.parameters() if optimizer.state[p]]
            if tensors:
                found.append(wide_norm(tensors))
        optimizer.step()
    seen.read()
    assert {key[2] for key in seen.points if key[0] == "moment_norm"} == states
    for state, found in want.items():
        assert seen.values("moment_norm", "", state) == pytest.approx(found, rel=1e-4)


def test_lbfgs_and_plain_sgd_do_no_harm(watched: Make) -> None:
    seen = watched()
    model = make_model()
    plain = torch.optim.SGD(model.parameters(), 1e-2)
    lbfgs = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=3)
    x = torch.randn(16, 4)

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    for _ in range(3):
        lbfgs.step(closure)
        closure()
        plain.step()
    seen.read()
    assert not any(key[0] == "adam_rms" for key in seen.points)


def test_a_nan_in_the_state_is_reported_once_with_its_name(watched: Make) -> None:
    seen = watched()
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for n in range(5):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        if n == 2:
            optimizer.state[model[2].weight]["exp_avg_sq"][0, 3] = float("inf")
        optimizer.step()
    seen.read()
    (report,) = [r for r in seen.reports if r.where == "moment"]
    assert (report.step, report.layers, report.inf) == (3, ["2.weight.exp_avg_sq"], 1)
    assert math.isinf(seen.values("moment_norm", "", "exp_avg_sq")[1])


def test_asking_for_the_state_makes_no_entries(watched: Make) -> None:
    watched()
    model = make_model()
    frozen = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([*model.parameters(), frozen], 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        optimizer.step()
    assert frozen not in optimizer.state


def test_bfloat16_parameters_and_sparse_gradients(watched: Make) -> None:
    seen = watched()
    model = make_model().to(torch.bfloat16)
    table = torch.nn.Embedding(9, 4, sparse=True)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    sparse = torch.optim.SparseAdam(list(table.parameters()), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        sparse.zero_grad()
        x = table(torch.tensor([1, 2, 3]))
        model(x.to(torch.bfloat16)).float().square().mean().backward()
        sparse.step()
        optimizer.step()
    seen.read()
    value = rms(optimizer, list(model.parameters()))
    found = [v for key, v in seen.points.items() if key[0] == "adam_rms"]
    assert len(found) == 1 and found[0][-1][1] == pytest.approx(value, rel=3e-2)
    moments = {key[1:] for key in seen.points if key[0] == "moment_norm"}
    assert len(moments) == 4  # two states of two optimizers
