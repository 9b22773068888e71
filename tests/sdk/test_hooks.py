"""Real torch loops of many shapes: what clock, norms, loss and scopes say of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from nanwatch.probes.attempts import APPLIED, SCALER_SKIPPED, USER_SKIPPED
from sdk.watched import Watched

Watch = Callable[..., Watched]


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def batch(n: int) -> torch.Tensor:
    return torch.randn(16, 4, generator=torch.Generator().manual_seed(n))


def loss_of(model: nn.Module, n: int) -> torch.Tensor:
    x = batch(n)
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def train(model: nn.Module, optimizer: Any, steps: int, clip: float = 0.0) -> list[float]:
    losses = []
    for n in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, n)
        loss.backward()
        if clip:
            clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_loss_lr_and_outcome_of_a_plain_loop(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    losses = train(model, torch.optim.Adam(model.parameters(), 1e-2), 20)
    seen.read()
    assert seen.series("loss") == [(n + 1, loss) for n, loss in enumerate(losses)]
    assert seen.values("lr") == [1e-2] * 20 == seen.values("lr_scheduled")
    assert seen.values("update_applied") == [1.0] * 20


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e9])
def test_gradient_norms_are_those_before_clipping(watched: Watch, clip: float) -> None:
    seen = watched()
    model = mlp()
    expected: list[tuple[float, float, float]] = []
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for n in range(10):
        optimizer.zero_grad()
        loss_of(model, n).backward()
        parts = [
            math.sqrt(sum(p.grad.double().square().sum().item() for p in layer.parameters()))
            for layer in (model[0], model[2])
        ]
        expected.append((math.hypot(*parts), *parts))
        if clip:
            clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    seen.read()
    for name, column in (("", 0), ("0", 1), ("2", 2)):
        kind = "grad_norm_layer" if name else "grad_norm"
        series = seen.series(kind, layer=name)
        # Without clipping a pass of our own may be left out to stay within the budget.
        assert len(series) == 10 if clip else len(series) >= 3
        for step, value in series:
            assert value == pytest.approx(expected[step - 1][column], rel=1e-5)
    assert seen.values("clip_threshold") == ([clip] * 10 if clip else [])


def test_weights_are_identical_with_and_without_us(watched: Watch) -> None:
    def run() -> list[torch.Tensor]:
        model = mlp()
        train(model, torch.optim.AdamW(model.parameters(), 1e-2), 60, clip=0.5)
        return [p.detach().clone() for p in model.parameters()]

    plain = run()
    watched()
    assert all(torch.equal(a, b) for a, b in zip(plain, run(), strict=True))


def test_every_update_skipped_by_the_script_still_counts_measures_and_names(
    watched: Watch,
) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for n in range(30):
        loss = loss_of(model, n) * (float("inf") if n >= 10 else 1.0)
        loss.backward()
        if any(not torch.isfinite(p.grad).all() for p in model.parameters()):
            optimizer.zero_grad()
            continue
        optimizer.step()
        optimizer.zero_grad()
    seen.read()
    assert seen.values("skip_reason") == [APPLIED] * 10 + [USER_SKIPPED] * 20
    assert [s for s, _ in seen.series("update_applied")] == list(range(1, 31))
    norms = dict(seen.series("grad_norm"))
    assert all(math.isfinite(v) == (step <= 10) for step, v in norms.items())
    assert set(range(11, 31)) <= set(norms), "every skipped attempt must be measured"
    loss_reports = [r for r in seen.reports if r.where == "loss"]
    (gradient,) = [r for r in seen.reports if r.where == "gradient"]
    assert len(loss_reports) == 1 and gradient.step == 11
    assert gradient.nan + gradient.inf == gradient.total == 4
    assert gradient.layers == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_gradients_set_to_none_by_hand_close_the_attempt(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for n in range(10):
        loss_of(model, n).backward()
        if n % 2:
            optimizer.step()
        for p in model.parameters():
            p.grad = None
    loss_of(model, 99).backward()
    seen.read()
    assert seen.values("skip_reason") == [USER_SKIPPED, APPLIED] * 5


def test_module_zero_grad_closes_too(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    torch.optim.SGD(model.parameters(), 0.1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for n in range(6):
        model.zero_grad()
        loss_of(model, n).backward()
        if n < 3:
            optimizer.step()
    model.zero_grad()
    assert seen.read().values("skip_reason") == [APPLIED] * 3 + [USER_SKIPPED] * 3


@pytest.mark.parametrize("divide", [True, False])
def test_accumulated_loss_is_the_mean_of_the_micro_batches(watched: Watch, divide: bool) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    means = []
    for n in range(5):
        parts = []
        for micro in range(4):
            loss = loss_of(model, 4 * n + micro)
            parts.append(loss.item())
            (loss / 4 if divide else loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        means.append(sum(parts) / 4)
    assert seen.read().values("loss") == pytest.approx(means, rel=1e-6)
    assert seen.run.observer.clock.step == 5


class Agent:
    """Actor critic with attributes, as in most code: names must come from them."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.policy = nn.Linear(4, 2)
        self.q1 = nn.Linear(6, 1)
        self.q1_target = copy.deepcopy(self.q1)
        self.policy_optimizer = torch.optim.Adam(self.policy.parameters(), 1e-3)
        self.q1_opt = torch.optim.Adam(self.q1.parameters(), 2e-3)

    def update(self, n: int, skip: bool = False) -> None:
        state = batch(n)
        q = self.q1(torch.cat([state, self.policy(state).detach()], 1))
        q_loss = (q - 1).square().mean()
        self.apply(self.q1_opt, q_loss, skip)
        policy_loss = -self.q1(torch.cat([state, self.policy(state)], 1)).mean()
        self.apply(self.policy_optimizer, policy_loss, skip)

    @staticmethod
    def apply(optimizer: Any, loss: torch.Tensor, skip: bool) -> None:
        optimizer.zero_grad()
        loss.backward()
        if not skip:
            optimizer.step()


def test_actor_critic_has_scopes_and_no_false_skips(watched: Watch) -> None:
    seen = watched()
    agent = Agent()
    for n in range(20):
        agent.update(n)
    seen.read()
    for scope in ("policy", "q1"):
        assert seen.values("skip_reason", scope) == [APPLIED] * 20
        assert len(seen.values("loss", scope)) == 20
    assert all(v >= 0 for v in seen.values("loss", "q1"))
    assert min(seen.values("loss", "policy")) < 0
    assert set(seen.values("lr", "q1")) == {2e-3} and set(seen.values("lr", "policy")) == {1e-3}


def test_actor_critic_that_skips_everything(watched: Watch) -> None:
    seen = watched()
    agent = Agent()
    agent.update(0)
    for n in range(1, 20):
        agent.update(n, skip=True)
    seen.read()
    assert seen.run.observer.clock.step >= 18
    assert seen.values("skip_reason", "q1").count(USER_SKIPPED) >= 17


def test_watch_names_scopes(watched: Watch) -> None:
    seen = watched()
    left, right = mlp(0), mlp(1)
    seen.run.watch(generator=left, discriminator=right)
    pair = [torch.optim.SGD(m.parameters(), 0.1) for m in (left, right)]
    for n in range(5):
        for model, optimizer in zip((left, right), pair, strict=True):
            optimizer.zero_grad()
            loss_of(model, n).backward()
            optimizer.step()
    seen.read()
    assert len(seen.values("loss", "generator")) == len(seen.values("loss", "discriminator")) == 5


def test_watching_keeps_no_old_model_alive(watched: Watch) -> None:
    import gc
    import weakref

    watched()
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    train(model, optimizer, 5, clip=1.0)
    old = weakref.ref(model), weakref.ref(optimizer)
    model = mlp(1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    train(model, optimizer, 5)
    gc.collect()
    assert [ref() for ref in old] == [None, None]


def test_asking_for_names_leaves_the_users_locals_alone(watched: Watch) -> None:
    watched()
    model = mlp()
    kept = locals()
    names = set(kept)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    train(model, optimizer, 3)
    assert names <= set(kept) and kept["model"] is model


def test_new_fold_keeps_the_name_and_opens_a_fit(watched: Watch) -> None:
    seen = watched()
    for fold in range(3):
        model = mlp(fold)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        train(model, optimizer, 60)
    seen.read()
    assert [s for s, _ in seen.series("loss")] == list(range(1, 181))
    assert [m.step for m in seen.marks if m.what == "fit"] == [60, 120]


def test_manual_perturbation_between_two_backwards_is_no_skip(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for n in range(8):
        loss_of(model, n).backward()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(p.grad, alpha=0.05)
        optimizer.zero_grad()
        loss_of(model, n).backward()
        with torch.no_grad():
            for p in model.parameters():
                p.sub_(p.grad, alpha=0.05)
        optimizer.step()
        optimizer.zero_grad()
    assert seen.read().values("skip_reason") == [APPLIED] * 8


def test_scaler_skips_are_seen_and_the_loss_is_unscaled(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    losses = []
    for n in range(12):
        optimizer.zero_grad()
        loss = loss_of(model, n)
        if n == 5:
            loss = loss * float("inf")
        losses.append(loss.item())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    seen.read()
    outcomes = [APPLIED] * 12
    outcomes[5] = SCALER_SKIPPED
    assert seen.values("skip_reason") == outcomes
    assert seen.values("loss") == pytest.approx(losses, rel=1e-6)
    scales = seen.values("loss_scale")
    assert scales[0] == 2.0**10 and scales[-1] == 2.0**9
    plain = mlp()
    plain_norm = math.sqrt(
        sum(
            g.double().square().sum().item()
            for g in torch.autograd.grad(loss_of(plain, 0), list(plain.parameters()))
        )
    )
    assert seen.values("grad_norm")[0] == pytest.approx(plain_norm, rel=1e-4)


def test_fused_optimizer_under_a_scaler_is_applied_only_without_inf(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for n in range(6):
        optimizer.zero_grad()
        loss = loss_of(model, n) * (float("nan") if n == 3 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    outcomes = [APPLIED] * 6
    outcomes[3] = SCALER_SKIPPED
    seen.read()
    assert seen.values("skip_reason") == outcomes
    assert seen.values("grad_norm")[0] < 100


def test_exceptions_of_the_user_pass_through_and_the_clock_goes_on(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad"):
        torch.zeros(1).backward()
    with pytest.raises(RuntimeError, match="non-finite"):
        (loss_of(model, 0) * float("nan")).backward()
        clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
    optimizer.zero_grad()
    train(model, optimizer, 3)
    assert seen.read().values("skip_reason") == [USER_SKIPPED, APPLIED, APPLIED, APPLIED]


def test_logged_tensors_become_moments_and_names_become_kinds(watched: Watch) -> None:
    seen = watched()
    q = torch.tensor([[1.0], [2.0], [3.0], [-2.0]])
    seen.run.log(q=q, reward=torch.tensor([-3.0, 1.0]), kl=0.5, accuracy=torch.tensor(0.25))
    seen.run.log({"q2.q": q * 10, "val/acc": 1}, stage="val")
    seen.run.log(q=torch.tensor([1.0, float("nan")]))
    seen.run.log(bad="text", worse=None, complex=torch.tensor(1j))
    seen.read()
    assert seen.values("q_mean")[0] == 1.0 and seen.values("q_max")[0] == 3.0
    assert seen.values("q_min")[0] == -2.0
    assert seen.values("q_std")[0] == pytest.approx(q.std(correction=0).item())
    assert seen.values("reward") == [-1.0] and seen.values("reward_abs_max") == [3.0]
    assert seen.values("kl") == [0.5]
    assert seen.values("custom", layer="accuracy") == [0.25]
    assert seen.values("q_mean", "q2") == [10.0]
    assert seen.values("custom", layer="val/acc") == [1.0]
    assert math.isnan(seen.values("q_mean")[1])
    assert seen.run.recorder.dropped == {"not a number": 3}
    assert [r.where for r in seen.reports] == ["logged"]


def test_removing_the_hooks_leaves_torch_as_it_was(watched: Watch) -> None:
    import torch.nn.utils.clip_grad as clip_module

    def functions() -> list[Any]:
        return [
            torch.autograd.backward,
            torch.optim.Optimizer.zero_grad,
            torch.optim.Optimizer.__init__,
            nn.Module.zero_grad,
            clip_module._get_total_norm,
            clip_module._clip_grads_with_norm_,
            torch._foreach_norm,
            torch.amp.GradScaler.step,
        ]

    before = functions()
    seen = watched()
    assert functions() != before
    seen.run.hooks.remove()
    assert functions() == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_number_format_of_the_loss_is_told(watched: Watch, dtype: torch.dtype) -> None:
    seen = watched()
    model = nn.Linear(4, 2).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=dtype is torch.float32)
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(8, 4).to(dtype)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    (config,) = [mark.data for mark in seen.read().marks if mark.what == "config"]
    assert config["loss_dtype"] == str(dtype).removeprefix("torch.")
