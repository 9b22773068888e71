"""Entropy and KL of what the loss asked distributions for; what the script logs itself wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Independent,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from nanwatch.probes import policy
from sdk.watched import Watched

Make = Callable[..., Watched]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "FIRST_STEP", 1)


def train(
    make: Callable[[torch.Tensor], Any],
    loss_of: Callable[[Any], torch.Tensor],
    steps: int = 5,
    after: Callable[[], Any] = lambda: None,
) -> tuple[Any, nn.Module]:
    """The last distribution."""
    torch.manual_seed(0)
    net = nn.Linear(4, 6)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    distribution = None
    for _ in range(steps):
        optimizer.zero_grad()
        distribution = make(net(torch.randn(16, 4)))
        loss_of(distribution).backward()
        optimizer.step()
        after()
    return distribution, net


def normal(out: torch.Tensor) -> Normal:
    mean, log_std = out.chunk(2, -1)
    return Normal(mean, log_std.exp())


def independent(out: torch.Tensor) -> Independent:
    return Independent(normal(out), 1)


def categorical(out: torch.Tensor) -> Categorical:
    return Categorical(logits=out)


def gaussian(out: torch.Tensor) -> MultivariateNormal:
    return MultivariateNormal(out[:, :3], torch.diag_embed(out[:, 3:].exp()))


@pytest.mark.parametrize("make", [normal, independent, categorical, gaussian])
def test_entropy_is_that_of_one_action(watched: Make, make: Any) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    last, _ = train(make, lambda d: -d.entropy().mean())
    with torch.no_grad():
        each = last.entropy()
    expected = (each.sum(-1) if make is normal else each).mean().item()
    series = seen.read().series("entropy")
    assert [step for step, _ in series] == [2, 3, 4, 5]
    assert series[-1][1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("way", [kl_divergence, torch.distributions.kl_divergence])
def test_kl_against_the_old_policy(watched: Make, way: Any) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9

    def loss(d: Any) -> torch.Tensor:
        old = Categorical(logits=torch.arange(6.0).expand(16, 6))
        return torch.distributions.kl_divergence(d, old).mean()

    last, _ = train(categorical, loss)
    with torch.no_grad():
        expected = way(last, Categorical(logits=torch.arange(6.0).expand(16, 6))).mean().item()
    assert seen.read().values("kl")[-1] == pytest.approx(expected, rel=1e-6)


def test_without_gradients_and_after_the_run_nothing_is_told(watched: Make) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    original = Normal.entropy.__wrapped__  # type: ignore[attr-defined]

    def loss(d: Any) -> torch.Tensor:
        with torch.no_grad():
            d.entropy()
        return d.rsample().square().mean()

    train(normal, loss)
    assert not seen.read().series("entropy")
    seen.run.hooks.remove()
    assert Normal.entropy is original
    assert not hasattr(torch.distributions.kl_divergence, "__wrapped__")


@pytest.mark.parametrize("scope", ["", "policy"])
def test_what_the_script_logs_wins(watched: Make, scope: str) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    train(
        normal,
        lambda d: -d.entropy().mean(),
        after=lambda: seen.run.log(entropy=7.0, scope=scope),
    )
    seen.read()
    told = [v for key, found in seen.points.items() if key[0] == "entropy" for _, v in found]
    assert told.count(7.0) == 5
    # The attempt that closed before the first word of the script is still there.
    assert len([v for v in told if v != 7.0]) <= 1


def run() -> list[torch.Tensor]:
    _, net = train(independent, lambda d: -d.entropy().mean() + d.rsample().mean(), 20)
    return [*(p.detach() for p in net.parameters()), torch.rand(2)]


def test_weights_are_the_same_to_the_bit(watched: Make) -> None:
    expected = run()
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    found = run()
    assert seen.read().series("entropy")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_compiled_losses_compile_as_if_we_were_not_there(watched: Make) -> None:
    import torch._dynamo
    from torch._dynamo.utils import counters

    def run() -> tuple[list[torch.Tensor], int, int]:
        torch._dynamo.reset()
        counters.clear()

        @torch.compile(backend="eager")
        def loss(out: torch.Tensor) -> torch.Tensor:
            one = Categorical(logits=out, validate_args=False)
            return -one.entropy().mean()

        _, net = train(lambda out: out, loss, 6)
        stats = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
        torch._dynamo.reset()
        return [p.detach() for p in net.parameters()], *stats

    weights, *without = run()
    watched()
    found, *counted = run()
    assert counted == without
    assert all(torch.equal(a, b) for a, b in zip(weights, found, strict=True))
