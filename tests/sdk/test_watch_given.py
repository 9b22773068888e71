"""`watch` takes what users have in hand, and says so of what it cannot use; nothing goes unseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sdk.watched import Watched

Watch = Callable[..., Watched]


class Agent:
    """A plain object, as in most repositories of reinforcement learning."""

    def __init__(self) -> None:
        self.actor, self.critic, self.gamma = nn.Linear(4, 2), nn.Linear(4, 1), 0.99


def train(actor: nn.Module, critic: nn.Module) -> None:
    for steps in (torch.optim.SGD(critic.parameters(), 0.1), torch.optim.SGD(actor.parameters())):
        net = critic if steps.param_groups[0]["lr"] == 0.1 else actor
        for _ in range(4):
            steps.zero_grad()
            net(torch.randn(8, 4)).square().mean().backward()
            steps.step()


GIVEN: dict[str, Callable[[Any, Agent], None]] = {
    "object": lambda run, agent: run.watch(agent),
    "named object": lambda run, agent: run.watch(agent=agent),
    "dict": lambda run, agent: run.watch({"actor": agent.actor, "critic": agent.critic}),
    "modules": lambda run, agent: run.watch(actor=agent.actor, critic=agent.critic),
}


@pytest.mark.parametrize("how", GIVEN)
def test_modules_are_named_however_they_are_given(watched: Watch, how: str) -> None:
    seen, agent = watched(), Agent()
    GIVEN[how](seen.run, agent)
    train(agent.actor, agent.critic)
    scopes = {scope for kind, scope, _ in seen.read().points if kind == "loss"}
    assert scopes == {"actor", "critic"}


def test_a_list_is_numbered(watched: Watch) -> None:
    seen, agent = watched(), Agent()
    seen.run.watch(nets=[agent.actor, agent.critic])
    assert sorted(seen.run.observer.registry.watched) == ["nets0", "nets1"]


def test_two_agents_keep_their_modules_apart(watched: Watch) -> None:
    seen, left, right = watched(), Agent(), Agent()
    right.settings = list(range(100))
    seen.run.watch(left=left, right=right)
    names = sorted(seen.run.observer.registry.watched)
    assert names == ["actor", "critic", "right_actor", "right_critic"]


WRONG: dict[str, Callable[[Any, Agent], None]] = {
    "optimizer": lambda run, agent: run.watch(torch.optim.SGD(agent.actor.parameters(), 0.1)),
    "number": lambda run, agent: run.watch(net=3),
    "nothing": lambda run, agent: run.watch(None),
    "main": lambda run, agent: run.watch(main=agent.actor),
    "empty": lambda run, agent: run.watch([]),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_module_is_told_and_costs_nothing_else(
    watched: Watch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    seen, agent = watched(), Agent()
    WRONG[what](seen.run, agent)
    (said,) = [record.getMessage() for record in caplog.records if "watch(" in record.getMessage()]
    assert "takes" in said
    train(agent.actor, agent.critic)
    points = seen.read().points
    assert sum(len(rows) for (kind, _, _), rows in points.items() if kind == "loss") == 8
