"""A deep Q-network keeps a water tank near its mark: three valves, level and inflow as they come
from the gauge (0 to 10). From a tutorial, with "SGD because it generalises better": squared error,
no target network, no clipping, gamma 0.99. The bootstrapped target rises with every step on the
guess, so Q grows faster and faster until it is inf. Cure: a target network, Huber loss, clipping,
scaled inputs.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=3)
CONFIG = {"lr": 1.5e-3, "gamma": 0.99, "batch_size": 32, "hidden": 64, "updates": 1200}
CONFIG |= {"eps_start": 1.0, "eps_end": 0.05, "eps_steps": 400, "buffer": 5000}


class Tank:
    """Level and inflow; the valve lets out 0, 1 or 2 litres; 1 near the mark, else less."""

    def __init__(self, copies: int, wild: float, seed: int) -> None:
        self.rng, self.wild = np.random.default_rng(seed), wild
        self.level = self.rng.uniform(0, 10, copies)
        self.inflow = self.rng.uniform(0, 2, copies)

    def observe(self) -> np.ndarray:
        return np.stack([self.level, self.inflow, self.level - 5], 1).astype(np.float32)

    def step(self, valve: np.ndarray) -> np.ndarray:
        self.level = np.clip(self.level + self.inflow - valve, 0, 10)
        self.inflow = np.clip(
            self.inflow + self.wild * self.rng.normal(size=len(valve)) + 0.1 * (1 - self.inflow),
            0, 2,
        )  # fmt: skip
        return (1 - abs(self.level - 5) / 2.5).astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    env, hidden = Tank(8, draw.uniform(0.1, 0.3), seed), config["hidden"]
    policy_net = nn.Sequential(
        nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3)
    )
    optimizer = torch.optim.SGD(policy_net.parameters(), lr=config["lr"], momentum=0.9)
    memory = Replay(config["buffer"], 3, 1, seed)
    run = nanwatch.init(project="corpus", name="tank-dqn", config=config)
    done = np.zeros(8, np.float32)
    for t in range(config["updates"] + 50):
        state = env.observe()
        part = min(1.0, t / config["eps_steps"])
        eps = config["eps_start"] + part * (config["eps_end"] - config["eps_start"])
        with torch.no_grad():
            action = policy_net(torch.from_numpy(state)).argmax(1).numpy()
        action = np.where(rng.random(8) < eps, rng.integers(0, 3, 8), action)
        reward = env.step(action)
        memory.add(state, action.astype(np.float32), reward, env.observe(), done)
        if t < 50:
            continue
        s, a, r, s2, _ = map(torch.from_numpy, memory.sample(config["batch_size"]))
        q = policy_net(s).gather(1, a.long())
        with torch.no_grad():
            target = r + config["gamma"] * policy_net(s2).max(1, keepdim=True).values
        loss = ((q - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=float(reward.mean()), q=q.detach())
    run.finish()
