"""A DQN switches the lights of a crossing with four approaches. The state is the number of cars
that wait, reward is minus that number; there is no target network ("the paper of 2013 had none"),
the maximum of the same net is bootstrapped with gamma 0.99 by squared error and plain SGD with
momentum. Values chase themselves and run off, far beyond what any queue can cost. Cure: a target
net, Huber loss.
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
CONFIG = {"lr": 7e-4, "gamma": 0.99, "batch_size": 64, "envs": 8, "updates": 1500, "hidden": 64}
CONFIG |= {"epsilon": 0.1, "buffer": 8000}


class Crossing:
    """Cars arrive on four approaches; green for two of them; a switch costs a step of nothing."""

    def __init__(self, copies: int, seed: int) -> None:
        self.rng, self.copies = np.random.default_rng(seed), copies
        self.rates = self.rng.uniform(0.2, 0.7, 4)
        self.cars = self.rng.poisson(2.0, (copies, 4)).astype(np.float32)
        self.green = self.rng.integers(0, 2, copies)

    def observe(self) -> np.ndarray:
        return np.concatenate([self.cars, self.green[:, None]], 1).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        same = action == self.green
        go = np.stack([self.green == 0, self.green == 0, self.green == 1, self.green == 1], 1)
        leave = 2.0 * (go & same[:, None])
        self.cars = np.maximum(self.cars - leave, 0) + self.rng.poisson(self.rates, self.cars.shape)
        self.cars = np.minimum(self.cars, 12)
        self.green = action.copy()
        return -self.cars.sum(1).astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.5)}
    env, hidden = Crossing(config["envs"], seed), config["hidden"]
    q_net = nn.Sequential(nn.Linear(5, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                          nn.Linear(hidden, 2))  # fmt: skip
    optimizer = torch.optim.SGD(q_net.parameters(), config["lr"], momentum=0.9)
    replay = Replay(config["buffer"], 5, 1, seed)
    run = nanwatch.init(project="corpus", name="crossing-dqn", config=config)
    none = np.zeros(config["envs"], np.float32)
    for update in range(-60, config["updates"]):
        seen = env.observe()
        with torch.no_grad():
            action = q_net(torch.from_numpy(seen)).argmax(1).numpy()
        explore = rng.random(config["envs"]) < (1 if update < 0 else config["epsilon"])
        action = np.where(explore, rng.integers(0, 2, config["envs"]), action)
        reward = env.step(action)
        replay.add(seen, action.astype(np.float32), reward, env.observe(), none)
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
