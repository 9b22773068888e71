"""A2C runs a small battery that buys and sells power: charge, wait, discharge. The reward is the
cash flow of the hour in cents, thousands; nothing scales it, and the value net is to predict sums
of it from a trunk shared with the policy, by squared error, SGD and momentum. The first losses are
tens of millions; advantages of thousands and the value's gradient tear trunk and logits apart, and
the policy is sure of one thing: wait. It earns nothing. Cure: normalise rewards, clip the norm.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="reward-scale", seeds=3)
CONFIG = {"lr": 1.5e-5, "gamma": 0.95, "envs": 16, "n_steps": 8, "updates": 360, "hidden": 48}
CONFIG |= {"vf_coef": 0.5, "ent_coef": 0.01, "momentum": 0.9}


class Battery:
    """State: hour of the day, price, charge. Prices go up and down with the hour."""

    def __init__(self, copies: int, seed: int, swing: float) -> None:
        self.rng, self.copies, self.swing = np.random.default_rng(seed), copies, swing
        self.hour, self.charge = self.rng.integers(0, 24, copies), np.full(copies, 0.5)
        self.noise = np.zeros(copies)

    def price(self) -> np.ndarray:
        return 60 + self.swing * np.sin(self.hour / 24 * 6.283) + 10 * self.noise

    def observe(self) -> torch.Tensor:
        turn = self.hour / 24 * 6.283
        rows = [np.sin(turn), np.cos(turn), (self.price() - 60) / 40, self.charge * 2 - 1]
        return torch.from_numpy(np.stack(rows, 1).astype(np.float32))

    def step(self, action: np.ndarray) -> torch.Tensor:
        flow = np.clip(action - 1, -self.charge / 0.25, (1 - self.charge) / 0.25)
        cents = -100 * flow * self.price() - 200 * np.abs(flow)
        self.charge = self.charge + 0.25 * flow
        self.hour = (self.hour + 1) % 24
        self.noise = 0.8 * self.noise + 0.6 * self.rng.normal(size=self.copies)
        return torch.from_numpy(cents.astype(np.float32))


class ActorCritic(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.pi, self.v = nn.Linear(hidden, 3), nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> tuple[Categorical, torch.Tensor]:
        x = self.trunk(x)
        return Categorical(logits=self.pi(x)), self.v(x).squeeze(-1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    env = Battery(config["envs"], seed, draw.uniform(25, 40))
    model = ActorCritic(config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="battery-a2c", config=config)
    for _ in range(config["updates"]):
        states, actions, rewards = [], [], []
        for _ in range(config["n_steps"]):
            states.append(env.observe())
            with torch.no_grad():
                actions.append(model(states[-1])[0].sample())
            rewards.append(env.step(actions[-1].numpy()))
        with torch.no_grad():
            following = model(env.observe())[1]
        returns = []
        for reward in reversed(rewards):
            following = reward + config["gamma"] * following
            returns.append(following)
        policy, values = model(torch.stack(states))
        gain = torch.stack(returns[::-1]) - values
        entropy = policy.entropy().mean()
        loss = -(policy.log_prob(torch.stack(actions)) * gain.detach()).mean()
        loss = loss + config["vf_coef"] * gain.square().mean() - config["ent_coef"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=torch.stack(rewards).mean(), entropy=entropy.detach())
    run.finish()
