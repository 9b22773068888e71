"""When is a pump to be serviced? A deep Q-learner sees hours since the last service, wear,
vibration and temperature, as the gauges show them; it can go on, throttle, or service. There is
no target network, gamma is 0.99, the loss a plain squared error, Adam at 0.008. Values are
bootstrapped from states in which all gauges stand a little higher, so that each step lifts the
next: Q runs away, far beyond any sum of rewards. Cure: scaled inputs, a target network, Huber loss.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=3)
CONFIG = {"lr": 8e-3, "gamma": 0.99, "batch_size": 64, "envs": 8, "updates": 1200, "hidden": 64}
CONFIG |= {"epsilon": 0.15, "buffer": 6000, "limit": 60}


class Pumps:
    """Wear grows with use, faster if the pump is hot; a worn pump may fail."""

    def __init__(self, copies: int, limit: int, seed: int) -> None:
        self.rng, self.copies, self.limit = np.random.default_rng(seed), copies, limit
        self.haste = self.rng.uniform(0.8, 1.4)
        self.hours, self.wear = np.zeros(copies), np.zeros(copies)
        self.age = self.rng.integers(0, limit, copies)

    def observe(self) -> np.ndarray:
        shake = 0.2 * self.wear + self.rng.normal(0, 0.3, self.copies)
        heat = 20 + 0.5 * self.wear + self.rng.normal(0, 1, self.copies)
        return np.stack([self.hours, self.wear, shake, heat], 1).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        use = np.array([1.0, 0.4, 0.0])[action]
        self.hours = self.hours + use
        self.wear = self.wear + self.haste * use * self.rng.uniform(0.5, 1.5, self.copies)
        fails = self.rng.random(self.copies) < 0.001 * np.maximum(self.wear - 15, 0) ** 1.5
        reward = use - 1.5 * (action == 2) - 3 * fails
        self.age += 1
        new = (action == 2) | fails | (self.age >= self.limit)
        self.hours[new], self.wear[new] = 0, 0
        self.age[self.age >= self.limit] = 0
        return reward.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    env, hidden = Pumps(config["envs"], config["limit"], seed), config["hidden"]
    q_net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                          nn.Linear(hidden, 3))  # fmt: skip
    optimizer = torch.optim.Adam(q_net.parameters(), lr=config["lr"])
    replay = Replay(config["buffer"], 4, 1, seed)
    run = nanwatch.init(project="corpus", name="pump-service", config=config)
    never = np.zeros(config["envs"], np.float32)
    for update in range(-80, config["updates"]):
        seen = env.observe()
        with torch.no_grad():
            action = q_net(torch.from_numpy(seen)).argmax(1).numpy()
        explore = rng.random(config["envs"]) < (1 if update < 0 else config["epsilon"])
        action = np.where(explore, rng.integers(0, 3, config["envs"]), action)
        reward = env.step(action)
        replay.add(seen, action.astype(np.float32), reward, env.observe(), never)
        if update < 0:
            continue
        state, did, paid, later, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            goal = paid + config["gamma"] * q_net(later).max(1, keepdim=True).values
        q = q_net(state).gather(1, did.long())
        loss = F.mse_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=float(reward.mean()), q=q.detach())
    run.finish()
