"""Torch loops that a reviewer broke us with: foreign graphs, odd optimizers, threads, leaks.

What is measured is compared with what the loop itself computes; what must not stay alive is held
by a weak reference.
"""

from __future__ import annotations

import copy
import gc
import math
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import nanwatch
from nanwatch.contract.frames import Table
from nanwatch.probes import discovery
from nanwatch.probes.attempts import APPLIED, USER_SKIPPED
from sdk.watched import Watched

Watch = Callable[..., Watched]


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def norm(model: nn.Module) -> float:
    """L2 norm of the gradients that are there, in double precision."""
    found = [
        p.grad.double().square().sum().item() for p in model.parameters() if p.grad is not None
    ]
    return math.sqrt(sum(found))


def assert_norms(seen: Watched, true: list[float], scope: str = "", least: int = 4) -> None:
    """Every norm we told is that of its step; a pass of our own may be left out for the budget."""
    series = seen.series("grad_norm", scope)
    assert len(series) >= least
    assert [v for _, v in series] == pytest.approx([true[s - 1] for s, _ in series], rel=1e-3)


def simple_step(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()


# --- calls of the user that must work ------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_backward_of_a_gradient_edge(watched: Watch, several: bool) -> None:
    seen = watched()
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        edge = get_gradient_edge(model(torch.ones(2, 4)).sum())
        torch.autograd.backward([edge] if several else edge)
        assert torch.equal(model.weight.grad, torch.full((1, 4), 2.0))
        optimizer.step()
    assert seen.read().values("skip_reason") == [APPLIED] * 3
    assert seen.values("grad_norm") == pytest.approx([math.sqrt(20)] * 3)


def test_a_compiled_optimizer_step_is_the_same_to_the_last_bit(watched: Watch) -> None:
    def train() -> torch.Tensor:
        torch.manual_seed(0)
        torch._dynamo.reset()
        model = nn.Linear(4, 4)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        step = torch.compile(optimizer.step, backend="aot_eager")
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().sum().backward()
            step()
        return model.weight.detach().clone()

    try:
        plain = train()
    except Exception as error:
        pytest.skip(f"torch.compile does not work on this machine: {type(error).__name__}: {error}")
    seen = watched()
    assert torch.equal(plain, train())
    assert seen.read().values("skip_reason") == [APPLIED] * 5


def test_backward_into_chosen_inputs_is_no_attempt_of_the_network(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    losses, norms = [], []
    for n in range(5):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(n))
        delta = torch.zeros_like(x, requires_grad=True)
        for way in ([delta], delta, (delta,)):  # an attack: only the input gets a gradient
            delta.grad = None
            (100 + model(x + delta).square().mean()).backward(inputs=way)
            with torch.no_grad():
                delta.add_(0.1 * delta.grad.sign())
        optimizer.zero_grad()
        loss = model(x + delta.detach()).square().mean()
        loss.backward(inputs=list(model.parameters()))
        losses.append(loss.item())
        norms.append(norm(model))
        optimizer.step()
    seen.read()
    assert seen.values("loss") == pytest.approx(losses)
    assert seen.values("skip_reason") == [APPLIED] * 5
    assert_norms(seen, norms)


# --- memory and cost -----------------------------------------------------------------------------


def test_an_optimizer_made_for_every_task_does_not_cost_a_search_each_time(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched()
    searches = 0
    search = discovery.instances

    def counted(base: type) -> list[Any]:
        nonlocal searches
        searches += 1
        return search(base)

    monkeypatch.setattr(discovery, "instances", counted)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(100):
        fast = copy.deepcopy(model)
        inner = torch.optim.SGD(fast.parameters(), 0.1)
        for _ in range(3):
            simple_step(fast, inner)
        optimizer.zero_grad()
        for slow, quick in zip(model.parameters(), fast.parameters(), strict=True):
            slow.grad = (slow - quick).detach()
        optimizer.step()
    assert searches <= 40, "100 tasks: naming must not scan the heap for each"
    seen.read()
    assert len({scope for kind, scope, _ in seen.points if kind == "update_applied"}) <= 3


def test_clips_of_parameters_that_nobody_steps_do_not_pile_up(watched: Watch) -> None:
    seen = watched()
    body, head = nn.Linear(4, 4), nn.Linear(4, 1)
    whole = nn.Sequential(body, head)
    head_optimizer = torch.optim.SGD(head.parameters(), 0.01)
    body_optimizer = torch.optim.SGD(body.parameters(), 0.01)
    for _ in range(200):
        head_optimizer.zero_grad()
        whole(torch.ones(1, 4)).sum().backward()
        clip_grad_norm_(whole.parameters(), 1.0)
        head_optimizer.step()
    assert max(len(known.clips) for known in seen.run.observer.registry.known.values()) <= 32
    assert body_optimizer is not None
    assert seen.read().values("clip_threshold", "head") == [1.0] * 200


@pytest.mark.parametrize("used", [True, False])
def test_scaling_a_loss_keeps_no_graph_alive(watched: Watch, used: bool) -> None:
    watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu")

    def once() -> weakref.ref[torch.Tensor]:
        leaf = torch.randn(8, 4, requires_grad=True)
        scaled = scaler.scale(model(leaf).square().mean())
        if used:  # by hand, so that we never see a backward of it
            found = torch.autograd.grad(scaled, list(model.parameters()))
            for parameter, gradient in zip(model.parameters(), found, strict=True):
                parameter.grad = gradient / scaler.get_scale()
            optimizer.step()
        return weakref.ref(leaf)

    leaves = [once() for _ in range(3)]
    assert [leaf() for leaf in leaves] == [None] * 3


def test_a_new_run_in_the_process_keeps_no_old_model_alive() -> None:
    def once() -> tuple[weakref.ref[Any], ...]:
        run = nanwatch.init("again", mode="offline")
        model = mlp()
        run.watch(model=model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            simple_step(model, optimizer)
        run.finish()
        return weakref.ref(model), weakref.ref(optimizer)

    kept = [ref for _ in range(3) for ref in once()]
    nanwatch.init(mode="off")
    gc.collect()
    assert [ref() for ref in kept] == [None] * 6


def test_a_step_that_raised_keeps_no_model_alive(watched: Watch) -> None:
    watched()

    def train() -> weakref.ref[nn.Module]:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def fail(*_: Any) -> None:
            raise RuntimeError("out of memory, says the user's own hook")

        optimizer.register_step_pre_hook(fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            simple_step(model, optimizer)
        return weakref.ref(model)

    model = train()
    gc.collect()
    assert model() is None


def test_steps_are_seen_after_one_that_raised(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    failing = torch.optim.SGD(model.parameters(), 0.1)

    def fail(*_: Any) -> None:
        raise RuntimeError("once")

    handle = failing.register_step_pre_hook(fail)
    with pytest.raises(RuntimeError, match="once"):
        simple_step(model, failing)
    handle.remove()
    for _ in range(5):
        simple_step(model, failing)
    assert seen.read().values("skip_reason")[-5:] == [APPLIED] * 5
    assert [s for s, _ in seen.series("skip_reason")] == list(range(1, len(seen.values("lr")) + 2))


# --- what is counted and measured ----------------------------------------------------------------


def test_two_hundred_micro_batches_are_one_update(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    updates, losses, norms = 4, [], []
    torch.manual_seed(0)
    for _ in range(updates):
        optimizer.zero_grad()
        loss = 0.0
        for _ in range(200):
            part = model(torch.randn(8, 4)).square().mean() / 200
            part.backward()
            loss += part.item()
        losses.append(loss)
        norms.append(norm(model))
        optimizer.step()
    seen.read()
    # The first update may be mistaken for skips: nobody can know what comes. Not the next ones.
    outcomes = seen.values("skip_reason")
    assert outcomes[-updates:] == [APPLIED] * updates and len(outcomes) <= updates + 3
    assert seen.values("loss")[1 - updates :] == pytest.approx(losses[1:], rel=1e-5)
    told = dict(seen.series("grad_norm"))
    first = len(outcomes) - updates
    for n in range(1, updates):
        assert told.get(first + n + 1, norms[n]) == pytest.approx(norms[n], rel=1e-5)


def test_a_step_of_lbfgs_with_many_closures_is_one_update(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=150, line_search_fn="strong_wolfe")
    x, y = torch.randn(64, 4), torch.randn(64, 1)
    losses: list[list[float]] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        losses[-1].append(loss.item())
        return loss

    for _ in range(3):
        losses.append([])
        optimizer.step(closure)
    assert max(map(len, losses)) > 70, "the case is about many backward passes in one step"
    seen.read()
    assert seen.series("skip_reason") == [(1, APPLIED), (2, APPLIED), (3, APPLIED)]
    told = seen.values("loss")
    assert len(told) == 3
    assert all(min(f) <= v <= max(f) for v, f in zip(told, losses, strict=True))


def test_a_norm_is_that_of_the_gradients_of_its_own_step(watched: Watch) -> None:
    """The actor's loss also fills the critic's gradients, which are then thrown away."""
    seen = watched()
    torch.manual_seed(0)
    actor, critic = nn.Linear(4, 4), nn.Linear(4, 1)
    actor_optimizer = torch.optim.SGD(actor.parameters(), 1e-3)
    critic_optimizer = torch.optim.SGD(critic.parameters(), 1e-3)
    norms: dict[str, list[float]] = {"actor": [], "critic": []}
    for _ in range(8):
        x = torch.randn(8, 4)
        critic_optimizer.zero_grad()
        critic(x).square().mean().backward()
        norms["critic"].append(norm(critic))
        critic_optimizer.step()
        actor_optimizer.zero_grad()
        (1000 * critic(actor(x))).mean().backward()
        critic_optimizer.zero_grad()
        norms["actor"].append(norm(actor))
        actor_optimizer.step()
    seen.read()
    for scope, true in norms.items():
        assert_norms(seen, true, scope, least=2)
        assert seen.values("skip_reason", scope) == [APPLIED] * 8


def test_the_norm_after_sams_ascent_is_that_of_the_descent(watched: Watch) -> None:
    seen = watched()
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, 0.01)
    norms = []
    for _ in range(8):
        x = torch.randn(8, 4)
        (100 * model(x)).square().mean().backward()
        clip_grad_norm_(parameters, 1.0)
        with torch.no_grad():
            ascent = [0.05 * p.grad for p in parameters]
            for p, d in zip(parameters, ascent, strict=True):
                p.add_(d)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        with torch.no_grad():
            for p, d in zip(parameters, ascent, strict=True):
                p.sub_(d)
        norms.append(norm(model))
        optimizer.step()
        optimizer.zero_grad()
    seen.read()
    assert_norms(seen, norms)
    assert seen.values("skip_reason") == [APPLIED] * 8


def test_two_losses_scaled_apart_are_told_unscaled(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    losses, norms = [], []
    for _ in range(6):
        optimizer.zero_grad()
        out = model(torch.randn(8, 4))
        first, second = out.square().mean(), out.abs().mean()
        scaled = scaler.scale(first), scaler.scale(second)
        scaled[0].backward(retain_graph=True)
        scaled[1].backward()
        losses.append((first.item() + second.item()) / 2)
        norms.append(norm(model) / 1024)
        scaler.step(optimizer)
        scaler.update()
    seen.read()
    assert seen.values("loss") == pytest.approx(losses, rel=1e-5)
    assert_norms(seen, norms)


@pytest.mark.parametrize("order", [2.0, math.inf])
@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.usefixtures("every_attempt")
def test_the_norm_before_clipping_whatever_the_clipping(
    watched: Watch, order: float, foreach: bool | None, again: bool
) -> None:
    seen = watched()
    model = nn.Linear(30, 30)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    norms = []
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.ones(2, 30)).sum().backward()
        norms.append(norm(model))
        clip_grad_norm_(model.parameters(), 1.0, norm_type=order, foreach=foreach)
        if again:  # only to read the norm, as many loggers do
            clip_grad_norm_(model.parameters(), math.inf, foreach=foreach)
        optimizer.step()
    seen.read()
    assert norms[0] > 50
    assert seen.values("grad_norm") == pytest.approx(norms)
    assert seen.values("clip_threshold") == [1.0] * 4


def test_clipping_by_value_and_in_parts(watched: Watch) -> None:
    seen = watched()
    model = nn.Linear(30, 30)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    optimizer.zero_grad()
    model(torch.ones(2, 30)).sum().backward()
    true = norm(model)
    clip_grad_norm_([model.weight], 1.0)
    clip_grad_norm_([model.bias], 7.0)
    clip_grad_value_(model.parameters(), 100.0)
    optimizer.step()
    assert seen.read().values("grad_norm") == [pytest.approx(true)]


@pytest.mark.parametrize("clip", ["none", "foreach", "loop"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_norms_of_half_precision_gradients_do_not_overflow(
    watched: Watch, clip: str, dtype: torch.dtype
) -> None:
    seen = watched()
    model = nn.ParameterList([nn.Parameter(torch.zeros(400, 400, dtype=dtype))])
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    for _ in range(3):
        optimizer.zero_grad()
        (model[0].float() * 512).sum().backward()
        assert bool(model[0].grad.isfinite().all()) and norm(model) == 204_800
        if clip != "none":
            clip_grad_norm_(model.parameters(), 1e30, foreach=clip == "foreach")
        optimizer.step()
    seen.read()
    assert seen.values("grad_norm") == pytest.approx([204_800] * 3, rel=1e-3)
    assert not seen.reports and not seen.values("nonfinite")


def test_two_names_that_are_one_series_give_one_value_each_time(watched: Watch) -> None:
    run = watched().run
    for n in range(3):
        run.log({"a b": float(n), "a_b": float(n), "other": float(n)})
        run.log(reward=1.0, rewards=2.0)
        run.log({"q": torch.ones(3), "q_mean": 2.0})
    tables = [record for record in run.recorder.drain(final=True) if isinstance(record, Table)]
    assert tables
    assert all(len(set(table.ids)) == len(table.ids) for table in tables)
    (other,) = (d.id for d in run.recorder.catalog.all() if d.layer == "other")
    assert sum(len(t.steps) // 8 for t in tables if other in t.ids) == 3


def test_skips_are_counted_after_another_optimizer_died(watched: Watch) -> None:
    seen = watched()
    body, head = nn.Linear(4, 4), nn.Linear(4, 1)
    body_optimizer = torch.optim.SGD(body.parameters(), 1e-3)
    head_optimizer = torch.optim.SGD(head.parameters(), 1e-3)
    for n in range(40):
        if n == 10:
            del head_optimizer
            gc.collect()
        body_optimizer.zero_grad()
        if n < 10:
            head_optimizer.zero_grad()
        head(body(torch.randn(2, 4))).sum().backward()
        if n < 10:
            head_optimizer.step()
        if n < 20:
            body_optimizer.step()
    body_optimizer.zero_grad()
    seen.read()
    assert seen.values("skip_reason", "body") == [APPLIED] * 20 + [USER_SKIPPED] * 20
    assert seen.values("skip_reason", "head") == [APPLIED] * 10


# --- the thread that trains ----------------------------------------------------------------------


def in_thread(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def test_a_clip_on_the_main_thread_does_not_hide_training_on_another(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    clip_grad_norm_(model.parameters(), 1.0)

    def train() -> None:
        for _ in range(10):
            simple_step(model, optimizer)

    in_thread(train)
    assert seen.read().values("skip_reason") == [APPLIED] * 10


def test_training_goes_on_in_a_new_thread_when_the_first_is_dead(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def train() -> None:
        for _ in range(10):
            simple_step(model, optimizer)

    in_thread(train)
    in_thread(train)
    assert seen.read().values("skip_reason") == [APPLIED] * 20


def test_training_moved_to_another_thread_is_seen_after_a_while(watched: Watch) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(5):  # a trial run on the main thread, which then waits for the real one
        simple_step(model, optimizer)

    def train() -> None:
        for _ in range(120):
            simple_step(model, optimizer)

    in_thread(train)
    outcomes = seen.read().values("skip_reason")
    assert outcomes == [APPLIED] * len(outcomes)
    assert len(outcomes) >= 5 + 120 - 55


def test_a_helper_thread_that_works_in_between_is_not_taken_for_the_training(
    watched: Watch,
) -> None:
    seen = watched()
    model, other = mlp(), mlp(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    helper = torch.optim.SGD(other.parameters(), 0.01)
    assert threading.current_thread() is threading.main_thread()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(80):
            simple_step(model, optimizer)
            pool.submit(simple_step, other, helper).result()
    seen.read()
    closed = [v for (kind, _, _), v in seen.points.items() if kind == "skip_reason"]
    assert [len(points) for points in closed] == [80]
