"""A2C catches fruit that falls down a board; a golden one counts 500, others 50 or -50. In the
wrapper of the original the score is cut to its sign, here it is not: advantages in the hundreds
drown the entropy bonus of 0.01 and after some tens of updates the basket stands still in a
corner. Cure: cut or scale rewards, normalise advantages.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse", seeds=3)
CONFIG = {"lr": 3e-2, "gamma": 0.97, "envs": 16, "rollout": 8, "updates": 500, "hidden": 64}
CONFIG |= {"entropy_bonus": 0.01, "value_weight": 0.5}
HIGH, WIDE = 7, 6


class Catch:
    """One fruit at a time falls from a random column; left, stay, right."""

    def __init__(self, count: int, golden: float, seed: int) -> None:
        self.rng, self.golden, self.count = np.random.default_rng(seed), golden, count
        self.basket = self.rng.integers(0, WIDE, count)
        self.row, self.column = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.worth = np.zeros(count, np.float32)
        self._drop(np.ones(count, bool))
        self.row = self.rng.integers(0, HIGH, count)

    def _drop(self, which: np.ndarray) -> None:
        n = int(which.sum())
        self.row[which], self.column[which] = 0, self.rng.integers(0, WIDE, n)
        kind = self.rng.random(n)
        self.worth[which] = np.where(kind < self.golden, 500, np.where(kind < 0.8, 50, -50))

    def observe(self) -> torch.Tensor:
        board = np.zeros((self.count, HIGH, WIDE), np.float32)
        board[np.arange(self.count), self.row, self.column] = 1
        basket = np.eye(WIDE, dtype=np.float32)[self.basket]
        kind = np.stack([self.worth == worth for worth in (500, 50, -50)], 1).astype(np.float32)
        return torch.from_numpy(np.concatenate([board.reshape(self.count, -1), basket, kind], 1))

    def step(self, action: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        self.basket = np.clip(self.basket + action - 1, 0, WIDE - 1)
        self.row += 1
        landed = self.row == HIGH
        reward = np.where(landed & (self.basket == self.column), self.worth, 0).astype(np.float32)
        if landed.any():
            self._drop(landed)
        return torch.from_numpy(reward), torch.from_numpy(landed.astype(np.float32))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = Catch(config["envs"], draw.uniform(0.05, 0.15), seed)
    hidden = config["hidden"]
    body = nn.Sequential(nn.Linear(HIGH * WIDE + WIDE + 3, hidden), nn.Tanh())
    actor, critic = nn.Linear(hidden, 3), nn.Linear(hidden, 1)
    parameters = [*body.parameters(), *actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"])
    run = nanwatch.init(project="corpus", name="catch", config=config)
    for _ in range(config["updates"]):
        log_probs, values, rewards, ends, entropies = [], [], [], [], []
        for _ in range(config["rollout"]):
            features = body(env.observe())
            policy = Categorical(logits=actor(features))
            action = policy.sample()
            reward, end = env.step(action.numpy())
            log_probs.append(policy.log_prob(action))
            values.append(critic(features).squeeze(1))
            entropies.append(policy.entropy())
            rewards.append(reward)
            ends.append(end)
        with torch.no_grad():
            future = critic(body(env.observe())).squeeze(1)
        returns = []
        for reward, end in zip(rewards[::-1], ends[::-1], strict=True):
            future = reward + config["gamma"] * (1 - end) * future
            returns.insert(0, future)
        advantage = torch.stack(returns) - torch.stack(values)
        entropy = torch.stack(entropies).mean()
        policy_loss = -(advantage.detach() * torch.stack(log_probs)).mean()
        value_loss = config["value_weight"] * advantage.square().mean()
        loss = policy_loss + value_loss - config["entropy_bonus"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=torch.stack(rewards).mean(), entropy=entropy.detach())
    run.finish()
