"""REINFORCE decides which of five fields is watered. What is watered is one sample of the
policy, what is rewarded is another: `act` is called once more where the loss is computed. The
gradient has no direction, the policy wanders, rewards stay where they were. Cure: keep the
action that was taken.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="vanishing-gradient", seeds=3)
CONFIG = {"lr": 2e-3, "farms": 24, "days": 12, "updates": 220, "hidden": 32, "gamma": 0.9}
FIELDS = 5


class Farms:
    """Fields dry out at a speed of their own; a dry field costs."""

    def __init__(self, farms: int, seed: int, rain: float) -> None:
        self._rng, self._rain = np.random.default_rng(seed), rain
        self.dry = self._rng.uniform(0, 1, (farms, FIELDS)).astype(np.float32)

    def step(self, field: np.ndarray) -> np.ndarray:
        self.dry += self._rng.uniform(0.05, 0.3, self.dry.shape).astype(np.float32)
        self.dry[np.arange(len(field)), field] = 0
        self.dry[self._rng.random(len(field)) < self._rain] *= 0.5
        self.dry = self.dry.clip(0, 2)
        return -self.dry.max(axis=1)


class Agent(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FIELDS, hidden), nn.Tanh(), nn.Linear(hidden, FIELDS))

    def act(self, dry: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        choice = Categorical(logits=self.net(dry))
        action = choice.sample()
        return action, choice.log_prob(action), choice.entropy()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    farms, agent = Farms(config["farms"], seed, draw.uniform(0.02, 0.08)), Agent(config["hidden"])
    optimizer = torch.optim.Adam(agent.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="irrigation", config=config)
    for _ in range(config["updates"]):
        seen, rewards = [], []
        for _ in range(config["days"]):
            seen.append(torch.from_numpy(farms.dry.copy()))
            with torch.no_grad():
                action, _, _ = agent.act(seen[-1])
            rewards.append(torch.from_numpy(farms.step(action.numpy())))
        returns, total = [], torch.zeros(config["farms"])
        for reward in reversed(rewards):
            total = reward + config["gamma"] * total
            returns.insert(0, total)
        gain = torch.stack(returns)
        gain = (gain - gain.mean(1, keepdim=True)) / (gain.std() + 1e-6)
        _, log_prob, entropy = agent.act(torch.stack(seen))
        loss = -(log_prob * gain).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=torch.stack(rewards).mean(), entropy=entropy.mean().detach())
    run.finish()
