"""Discrete SAC sets traffic lights. The target of the entropy was taken from the continuous recipe
with a wrong sign, twice the logarithm of the number of actions, more than any policy has: the
temperature rises for ever, and values are bonuses for entropy. Cure: a part of the logarithm.
"""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=4)
CONFIG = {"lr": 2e-3, "alpha_lr": 1e-2, "gamma": 0.95, "tau": 0.02, "actions": 3, "crossings": 8}
CONFIG |= {"target_entropy": 2 * math.log(3), "hidden": 32, "batch_size": 32, "steps": 500}


class Crossings:
    """Queues from three roads; the road with the green light empties; rewards: minus the cars."""

    def __init__(self, crossings: int, traffic: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.rates = traffic * self.rng.uniform(0.5, 1.5, (crossings, 3))
        self.queues = np.zeros((crossings, 3))

    def observe(self) -> np.ndarray:
        return (self.queues / 5).astype(np.float32)

    def step(self, green: np.ndarray) -> np.ndarray:
        rows = np.arange(len(green))
        self.queues[rows, green] = np.maximum(self.queues[rows, green] - 4, 0)
        self.queues = np.minimum(self.queues + self.rng.poisson(self.rates), 15)
        return (-self.queues.sum(1) / 10).astype(np.float32)


def mlp(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3)
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    world = Crossings(config["crossings"], draw.uniform(0.7, 1.1), seed)
    replay = Replay(4000, 3, 1, seed)
    actor, critic, twin = (mlp(config["hidden"]) for _ in range(3))
    slow, slow_twin = (copy.deepcopy(one).requires_grad_(False) for one in (critic, twin))
    log_alpha = nn.Parameter(torch.tensor(math.log(0.1)))
    both = [*critic.parameters(), *twin.parameters()]
    optimizer = torch.optim.Adam(actor.parameters(), lr=config["lr"])
    optimizer_q = torch.optim.Adam(both, lr=config["lr"])
    optimizer_a = torch.optim.Adam([log_alpha], lr=config["alpha_lr"])
    run = nanwatch.init(project="corpus", name="lights-sac", config=config)
    run.watch(critic=critic, actor=actor)
    for step in range(-15, config["steps"]):
        obs = world.observe()
        with torch.no_grad():
            logits = actor(torch.from_numpy(obs))
            green = torch.distributions.Categorical(logits=logits).sample().numpy()
        reward = world.step(green)
        replay.add(obs, green.astype(np.float32), reward, world.observe(), np.zeros_like(reward))
        if step < 0:
            continue
        before, action, paid, after, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        alpha = log_alpha.exp().detach()
        with torch.no_grad():
            logp = actor(after).log_softmax(1)
            worth = torch.minimum(slow(after), slow_twin(after)) - alpha * logp
            target = paid + config["gamma"] * (logp.exp() * worth).sum(1, keepdim=True)
        found = critic(before).gather(1, action.long())
        other = twin(before).gather(1, action.long())
        loss_q = F.mse_loss(found, target) + F.mse_loss(other, target)
        optimizer_q.zero_grad()
        loss_q.backward()
        optimizer_q.step()
        logp = actor(before).log_softmax(1)
        with torch.no_grad():
            worth = torch.minimum(critic(before), twin(before))
        loss = (logp.exp() * (alpha * logp - worth)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        entropy = -(logp.exp() * logp).sum(1).mean().detach()
        loss_a = log_alpha * (entropy - config["target_entropy"])
        optimizer_a.zero_grad()
        loss_a.backward()
        optimizer_a.step()
        with torch.no_grad():
            for old, new in ((slow, critic), (slow_twin, twin)):
                for one, fresh in zip(old.parameters(), new.parameters(), strict=True):
                    one.lerp_(fresh, config["tau"])
        run.log(reward=reward.mean(), q=found.detach(), entropy=entropy, alpha=alpha)
    run.finish()
