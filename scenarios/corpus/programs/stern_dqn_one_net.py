"""Q-learning from a replay memory for a thermostat with three settings, the "simple DQN" of a
tutorial: one network, no target network, MSE, plain SGD, gamma 0.99, no clipping. Targets chase
their own estimates, Q-values double every few dozen steps and overflow. Cure: a target network, a
Huber loss, a lower rate."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=3)
CONFIG = {"lr": 3e-4, "gamma": 0.99, "batch_size": 32, "memory": 4000, "steps": 1500, "hidden": 48}
CONFIG |= {"epsilon_end": 0.05, "copies": 4}


class House:
    """Temperatures inside and outside in degrees, the price of power; off, low, high."""

    def __init__(self, copies: int, loss: float, seed: int) -> None:
        self.rng, self.copies, self.loss = np.random.default_rng(seed), copies, loss
        self.inside = self.rng.uniform(14, 24, copies)
        self.outside = self.rng.uniform(-5, 15, copies)
        self.price = self.rng.uniform(0, 1, copies)

    def observe(self) -> np.ndarray:
        return np.stack([self.inside / 10, self.outside / 10, self.price], 1).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        drift = self.loss * (self.outside - self.inside)
        self.inside = self.inside + drift + 1.2 * action + self.rng.normal(0, 0.1, self.copies)
        self.outside = self.outside + self.rng.normal(0, 0.5, self.copies)
        self.outside = np.clip(self.outside, -8, 18)
        self.price = np.clip(self.price + self.rng.normal(0, 0.1, self.copies), 0, 1)
        cold = np.clip(np.abs(self.inside - 20), 0, 8) / 8
        return (1 - cold - 0.2 * action * self.price).astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    house, rng = (
        House(config["copies"], draw.uniform(0.08, 0.12), seed),
        np.random.default_rng(seed),
    )
    hidden, copies = config["hidden"], config["copies"]
    net = nn.Sequential(
        nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3)
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=config["lr"], momentum=0.9)
    memory: list[tuple[np.ndarray, int, float, np.ndarray]] = []
    run = nanwatch.init(project="corpus", name="thermostat", config=config)
    for step in range(config["steps"]):
        epsilon = max(config["epsilon_end"], 1 - step / 600)
        seen = house.observe()
        with torch.no_grad():
            best = net(torch.from_numpy(seen)).argmax(1).numpy()
        action = np.where(rng.random(copies) < epsilon, rng.integers(0, 3, copies), best)
        reward = house.step(action)
        after = house.observe()
        memory.extend(zip(seen, action, reward, after, strict=True))
        del memory[: -config["memory"]]
        if len(memory) < 200:
            continue
        rows = random.Random(step).sample(memory, config["batch_size"])
        x, a, r, y = (torch.from_numpy(np.array(column)) for column in zip(*rows, strict=True))
        q = net(x).gather(1, a[:, None]).squeeze(1)
        with torch.no_grad():
            target = r + config["gamma"] * net(y).max(1).values
        loss = F.mse_loss(q, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(q=q.detach(), reward=r.mean())
    run.finish()
