"""A duelling double Q-learner sets the lights of a crossing. Rewards are costs, the loss jumps at
each renewal of the target and does not fall, and fewer cars wait as exploration ends."""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=4)
CONFIG = {"lr": 1.5e-3, "gamma": 0.9, "batch_size": 32, "renew": 40, "decay": 300, "steps": 900}
CONFIG |= {"crossings": 6, "hidden": 48}


class Crossing:
    """Cars that wait on four approaches; two go at a time, and a change costs a step of amber."""

    def __init__(self, crossings: int, seed: int, busy: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.queues = self.rng.integers(0, 4, (crossings, 4)).astype(np.float32)
        self.green = np.zeros(crossings, np.int64)
        self.rates = busy * self.rng.dirichlet([3, 3, 3, 3], crossings)

    def observe(self) -> np.ndarray:
        return np.concatenate([self.queues / 5, self.green[:, None]], 1).astype(np.float32)

    def step(self, wanted: np.ndarray) -> np.ndarray:
        go = (wanted == self.green)[:, None] * (np.arange(4) // 2 == wanted[:, None])
        self.green = wanted
        left = np.maximum(self.queues - 2 * go, 0)
        self.queues = np.minimum(left + self.rng.poisson(self.rates), 12).astype(np.float32)
        return (-self.queues.sum(1) / 10).astype(np.float32)


class Duelling(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(5, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.value, self.gain = nn.Linear(hidden, 1), nn.Linear(hidden, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.trunk(x)
        gain = self.gain(h)
        return self.value(h) + gain - gain.mean(1, keepdim=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, busy = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(1.6, 2.0)
    config = CONFIG | {"seed": seed, "lr": lr, "busy": busy}
    env, replay = Crossing(config["crossings"], seed, busy), Replay(4000, 5, 1, seed)
    online = Duelling(config["hidden"])
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.Adam(online.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="crossing-dueling", config=config)
    run.watch(online=online)
    for step in range(-30, config["steps"]):
        obs = env.observe()
        with torch.no_grad():
            action = online(torch.from_numpy(obs)).argmax(1).numpy()
        explore = env.rng.random(len(action)) < max(0.05, 1 - max(step, 0) / config["decay"])
        action = np.where(explore, env.rng.integers(0, 2, len(action)), action)
        reward = env.step(action)
        taken = action[:, None].astype(np.float32)
        replay.add(obs, taken, reward, env.observe(), np.zeros_like(reward))
        if step < 0:
            continue
        before, taken, paid, after, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            best = online(after).argmax(1, keepdim=True)
            wanted = paid.view(-1, 1) + config["gamma"] * target(after).gather(1, best)
        loss = F.smooth_l1_loss(online(before).gather(1, taken.long()), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config["renew"] == 0:
            target.load_state_dict(online.state_dict())
        run.log(reward=reward.mean())
    run.finish()
