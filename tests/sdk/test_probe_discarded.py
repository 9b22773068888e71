"""Batches thrown away before backward are skipped attempts; nothing else is taken for one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import nanwatch
from nanwatch.contract.frames import Command, Go
from nanwatch.probes.attempts import USER_SKIPPED
from nanwatch.probes.discarded import Discards
from sdk.watched import Watched

Make = Callable[..., Watched]

NAN = float("nan")


def mlp(inputs: int = 4, outputs: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


def batches(n: int, bad: range = range(0)) -> Iterator[torch.Tensor]:
    for i in range(n):
        x = torch.randn(8, 4)
        if i in bad:
            x[0, 0] = NAN
        yield x


def skips(seen: Watched, scope: str = "") -> list[int]:
    return [step for step, why in seen.read().series("skip_reason", scope) if why == USER_SKIPPED]


# --- loops that throw batches away ---------------------------------------------------------------


def cleared_first(model: Any, optimizer: Any, data: Iterator[torch.Tensor]) -> None:
    for x in data:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        if not torch.isfinite(loss):
            continue
        loss.backward()
        optimizer.step()


def cleared_late(model: Any, optimizer: Any, data: Iterator[torch.Tensor]) -> None:
    for x in data:
        loss = model(x).square().mean()
        if torch.isnan(loss):
            continue
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def cleared_by_module_at_the_end(model: Any, optimizer: Any, data: Iterator[torch.Tensor]) -> None:
    for x in data:
        loss = model(x).square().mean()
        if torch.isfinite(loss):
            loss.backward()
            optimizer.step()
        model.zero_grad()


LOOPS = [cleared_first, cleared_late, cleared_by_module_at_the_end]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_streak_of_discarded_batches_is_counted(watched: Make, loop: Any) -> None:
    seen = watched()
    model = mlp()
    loop(model, torch.optim.SGD(model.parameters(), 1e-3), batches(80, range(40, 70)))
    # Known when the batch after it begins; what comes first is the 40 applied ones.
    found = skips(seen)
    assert found == list(range(41, 71))
    assert seen.series("update_applied")[-10:] == [(n, 1.0) for n in range(71, 81)]
    assert [step for step, _ in seen.series("loss")] == [*range(1, 41), *range(71, 81)]


def test_batches_discarded_for_another_reason_are_counted_from_the_second(watched: Make) -> None:
    """`if loss > limit: continue`: finite, but the gradients were cleared in between."""
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for n, x in enumerate(batches(60)):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        if n >= 40:
            continue
        loss.backward()
        optimizer.step()
    assert skips(seen) == list(range(41, 59))


def test_a_stop_reaches_a_script_that_discards_every_batch(watched: Make) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    done = 0

    def data() -> Iterator[torch.Tensor]:
        nonlocal done
        for done, x in enumerate(batches(200, range(40, 200))):
            if done == 50:
                stop(seen)
            yield x

    with pytest.raises(nanwatch.StopTraining):
        cleared_first(model, optimizer, data())
    assert 50 <= done <= 52


def stop(seen: Watched) -> None:
    """As if a person had pressed the button and the server had said go."""
    inbox = seen.run.inbox
    inbox.receive(Command(id="c", kind="stop", args={"checkpoint": False}, expires_in=60))
    (answer,) = inbox.take_frames()
    inbox.receive(Go(id="c", nonce=answer.nonce))


class QNetwork(nn.Sequential):
    pass


def test_what_a_discarded_batch_showed_belongs_to_its_attempt(watched: Make) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    critic = QNetwork(*mlp())
    data = list(batches(40, range(30, 35)))
    cleared_first(critic, torch.optim.SGD(critic.parameters(), 1e-3), iter(data))
    assert skips(seen) == list(range(31, 36))
    means = dict(seen.series("q_mean", "model"))
    assert {step for step, mean in means.items() if mean != mean} == set(range(31, 36))
    assert means[36] == means[36]


def test_discards_do_not_change_the_weights(watched: Make) -> None:
    plain = mlp()
    cleared_first(
        plain, torch.optim.SGD(plain.parameters(), 1e-2), seeded_batches(60, range(30, 40))
    )
    seen = watched()
    ours = mlp()
    cleared_first(ours, torch.optim.SGD(ours.parameters(), 1e-2), seeded_batches(60, range(30, 40)))
    assert len(skips(seen)) == 10
    for a, b in zip(plain.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)


def seeded_batches(n: int, bad: range) -> Iterator[torch.Tensor]:
    torch.manual_seed(1)
    yield from batches(n, bad)


# --- loops that do not -------------------------------------------------------------------------


def evaluation_with_gradients_left_on(model: Any, optimizer: Any) -> None:
    for epoch in range(4):
        for x in batches(30):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        for x in batches(10 + epoch):
            model(x).square().mean().item()


def evaluation_in_the_same_place(model: Any, optimizer: Any) -> None:
    def run(data: Iterator[torch.Tensor], train: bool) -> None:
        for x in data:
            loss = model(x).square().mean()
            if train:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    for _ in range(4):
        run(batches(30), True)
        run(batches(10), False)


def evaluation_after_clearing(model: Any, optimizer: Any) -> None:
    """Gradients are cleared at the end of each step and before each, evaluation in between."""

    def run(data: Iterator[torch.Tensor], train: bool) -> None:
        for x in data:
            if train:
                optimizer.zero_grad()
            loss = model(x).square().mean()
            if train:
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

    for _ in range(4):
        run(batches(30), True)
        run(batches(10), False)


def phases_of_the_tutorial(model: Any, optimizer: Any) -> None:
    for _, phase in itertools.product(range(4), ("train", "val")):
        model.train(phase == "train")
        for x in batches(25):
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                loss = model(x).square().mean()
                if phase == "train":
                    loss.backward()
                    optimizer.step()


def windows_of_varying_length(model: Any, optimizer: Any) -> None:
    for n in range(60):
        optimizer.zero_grad()
        state = torch.randn(8, 4)
        loss = torch.zeros(())
        for _ in range(1 + n % 7):
            loss = loss + model(state).square().mean()
        loss.backward()
        optimizer.step()


def accumulation(model: Any, optimizer: Any) -> None:
    for n, x in enumerate(batches(120), 1):
        (model(x).square().mean() / 4).backward()
        if n % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


def accumulation_with_one_bad_part(model: Any, optimizer: Any) -> None:
    for n, x in enumerate(batches(200, range(101, 102)), 1):
        loss = model(x).square().mean()
        if torch.isfinite(loss):
            loss.backward()
        if n % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


def cleared_between_forward_and_backward(model: Any, optimizer: Any) -> None:
    for x in batches(60):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def logged_first(model: Any, optimizer: Any) -> None:
    def loss_of(x: torch.Tensor) -> torch.Tensor:
        return model(x).square().mean()

    loss = torch.zeros(())
    for x in batches(60):
        for _ in range(2):
            optimizer.zero_grad()
            loss = loss_of(x)
        loss.backward()
        optimizer.step()


def acting_with_gradients(model: Any, optimizer: Any) -> None:
    for n in range(50):
        returns = []
        for x in batches(5 if n < 30 else 5 + n % 3):
            returns.append(model(x[:1]).mean())
        optimizer.zero_grad()
        torch.stack(returns).mean().backward()
        optimizer.step()


def warm_up_and_probing(model: Any, optimizer: Any) -> None:
    model(torch.randn(1, 4))
    optimizer.zero_grad()
    model(torch.randn(1, 4))
    for n, x in enumerate(batches(60)):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        if n % 10 == 0:
            model(x[:1])


def recomputation(model: Any, optimizer: Any) -> None:
    for x in batches(40):
        optimizer.zero_grad()
        out: Any = checkpoint(model, x, use_reentrant=False)
        out.square().mean().backward()
        optimizer.step()


def closures(model: Any, optimizer: Any) -> None:
    for x in batches(40):

        def closure(x: torch.Tensor = x) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)


def gradients_by_hand(model: Any, optimizer: Any) -> None:
    parameters = list(model.parameters())
    for x in batches(40):
        optimizer.zero_grad()
        gradients = torch.autograd.grad(model(x).square().mean(), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


def a_second_habit_later(model: Any, optimizer: Any) -> None:
    """The loop changes: from now on every batch is seen twice, once for its loss alone."""

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        return model(x).square().mean()

    loss = torch.zeros(())
    for n, x in enumerate(batches(80)):
        for _ in range(1 if n < 40 else 2):
            loss = loss_of(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(
    "loop",
    [
        evaluation_with_gradients_left_on,
        evaluation_in_the_same_place,
        evaluation_after_clearing,
        phases_of_the_tutorial,
        windows_of_varying_length,
        accumulation,
        accumulation_with_one_bad_part,
        cleared_between_forward_and_backward,
        logged_first,
        acting_with_gradients,
        warm_up_and_probing,
        recomputation,
        closures,
        gradients_by_hand,
        a_second_habit_later,
    ],
)
def test_healthy_loops_have_no_skips(watched: Make, loop: Any) -> None:
    seen = watched()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    loop(model, optimizer)
    assert skips(seen) == []
    assert len(seen.series("update_applied")) >= 30


def test_a_gan_has_no_skips(watched: Make) -> None:
    seen = watched()
    generator, judge = mlp(2, 4), mlp(4, 1)
    g_optimizer = torch.optim.SGD(generator.parameters(), 1e-3)
    d_optimizer = torch.optim.SGD(judge.parameters(), 1e-3)
    for n in range(40):
        fake = generator(torch.randn(8, 2))
        d_optimizer.zero_grad()
        (judge(fake.detach()).mean() - judge(torch.randn(8, 4)).mean()).backward()
        d_optimizer.step()
        if n % 5 == 0:
            g_optimizer.zero_grad()
            d_optimizer.zero_grad()
            (-judge(generator(torch.randn(8, 2)))).mean().backward()
            g_optimizer.step()
    assert skips(seen, "generator") == [] == skips(seen, "judge")
    assert len(seen.series("update_applied", "judge")) == 40


def test_folds_have_no_skips(watched: Make) -> None:
    seen = watched()
    for _ in range(4):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        cleared_first(model, optimizer, batches(30))
        for x in batches(5):
            model(x)
    assert skips(seen) == []


# --- the bookkeeping alone -----------------------------------------------------------------------

ONE = frozenset({0})


def learned(calls: int = 1, runs: int = 20, clear: bool = True) -> Discards:
    known = Discards()
    for _ in range(runs):
        if clear:
            known.zeroed(ONE)
        for _ in range(calls):
            assert known.forward("here", ONE) is None
        known.backward(ONE)
    return known


def test_nothing_is_said_before_the_loop_is_known() -> None:
    known = learned(runs=19)
    for _ in range(5):
        known.zeroed(ONE)
        assert known.forward("here", ONE) is None


def test_clearing_twice_gives_it_away_and_the_second_time_for_sure() -> None:
    known = learned()
    known.zeroed(ONE)
    assert known.forward("here", ONE) is None
    known.zeroed(ONE)
    first = known.forward("here", ONE)
    assert first is not None and first.cleared and not first.sure
    known.zeroed(ONE)
    second = known.forward("here", ONE)
    assert second is not None and second.sure
    known.backward(ONE)
    known.zeroed(ONE)
    assert known.forward("here", ONE) is None


def test_other_places_and_other_optimizers_say_nothing() -> None:
    known = learned()
    known.zeroed(ONE)
    known.forward("here", ONE)
    known.zeroed(frozenset({1}))
    assert known.forward("there", ONE) is None
    suspicion = known.forward("here", ONE)
    assert suspicion is not None and not suspicion.cleared, "cleared by a stranger is not cleared"


def test_a_whole_further_run_is_suspect_and_part_of_one_is_not() -> None:
    known = learned(calls=3, clear=False)
    found = [known.forward("here", ONE) for _ in range(7)]
    assert [suspicion is not None for suspicion in found] == [False] * 3 + [True] + [False] * 2 + [
        True
    ]


def test_runs_of_varying_length_are_never_suspect() -> None:
    known = learned(calls=2, clear=False)
    known.forward("here", ONE)
    known.backward(ONE)
    assert all(known.forward("here", ONE) is None for _ in range(9))


def test_sites_are_bounded() -> None:
    known = Discards()
    for n in range(10_000):
        known.forward(n, ONE)
    assert len(known.sites) <= 256
