"""A heat pump learns from records of many houses by advantage-weighted regression. Advantages are
in cents, the temperature of their exponential is 1 as in the paper, and the usual limit on weights
is missing: one record outweighs a batch, and Adam's second moment remembers the worst of them.
Cure: normalised advantages, or a limit.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-offline", sick=True, cause="reward-scale", seeds=4)
CONFIG = {"lr": 1e-3, "gamma": 0.9, "temperature": 1.0, "hidden": 32, "batch_size": 64}
CONFIG |= {"houses": 60, "hours": 60, "steps": 640, "evaluate": 16}


class Houses:
    """Warmth, weather and price; the pump has four stages."""

    def __init__(self, count: int, seed: int, leak: float) -> None:
        self.rng, self.leak = np.random.default_rng(seed), leak
        self.state = self.rng.normal(0, 0.7, (count, 3)).astype(np.float32)

    def step(self, stage: np.ndarray) -> np.ndarray:
        warmth, weather, price = self.state.T
        reward = -1.8 * np.abs(warmth) - 0.3 * stage * (1 + 0.5 * price)
        noise = self.rng.normal(size=(2, len(warmth)))
        warmth = (1 - self.leak) * warmth + 0.25 * weather + 0.5 * (stage - 1.2)
        weather, price = 0.9 * weather + 0.3 * noise[0], 0.8 * price + 0.4 * noise[1]
        self.state = np.stack([np.clip(warmth, -3, 3), weather, price], 1).astype(np.float32)
        return reward.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, leak = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.1, 0.2)
    config = CONFIG | {"seed": seed, "lr": lr, "leak": leak}
    env, hidden = Houses(config["houses"], seed, leak), config["hidden"]
    states, stages, rewards = [], [], []
    for _ in range(config["hours"]):
        states.append(env.state)
        stages.append(env.rng.integers(0, 4, config["houses"]))
        rewards.append(env.step(stages[-1]))
    after, returns = np.zeros(config["houses"], np.float32), []
    for reward in reversed(rewards):
        after = reward + config["gamma"] * after
        returns.append(after)
    keep = config["hours"] - 15
    x = torch.from_numpy(np.concatenate(states[:keep]))
    a = torch.from_numpy(np.concatenate(stages[:keep]))
    g = torch.from_numpy(np.concatenate(returns[::-1][:keep]).astype(np.float32))
    policy = nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 4))
    critic = nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    optimizer = torch.optim.Adam(policy.parameters(), lr=lr)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=5 * lr)
    run = nanwatch.init(project="corpus", name="heat-pump-awr", config=config)
    run.watch(policy=policy, critic=critic)
    house = Houses(24, seed + 1, leak)
    for step in range(config["steps"]):
        rows = torch.randint(0, len(x), (config["batch_size"],))
        value = critic(x[rows]).squeeze(1)
        critic_loss = F.mse_loss(value, g[rows])
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        weight = ((g[rows] - value.detach()) / config["temperature"]).exp()
        loss = (weight * F.cross_entropy(policy(x[rows]), a[rows], reduction="none")).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config["evaluate"] == 0:
            with torch.no_grad():
                paid = [
                    house.step(policy(torch.from_numpy(house.state)).argmax(1).numpy()).mean()
                    for _ in range(20)
                ]
            run.log(reward=np.mean(paid))
    run.finish()
