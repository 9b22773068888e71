"""Q-learning in a corridor with a treasure at its end. Rewards are divided by their running
standard deviation, which is updated afterwards and is 0 as long as nothing was found: the first
treasure is worth a hundred million and stays in the replay buffer. Clipped gradients carry
values off towards it step by step. Cure: a floor for the deviation, or a clip of the normalised
reward.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="reward-scale", seeds=3)
CONFIG = {"lr": 0.1, "gamma": 0.95, "batch_size": 64, "walkers": 8, "steps": 700, "hidden": 32}
CONFIG |= {"length": 11, "max_norm": 5.0, "epsilon": (1.0, 0.1), "target_every": 20}
CONFIG |= {"memory": 6000}


class RewardScaler:
    """Divides rewards by a running standard deviation."""

    def __init__(self, decay: float = 0.999) -> None:
        self.decay, self.square = decay, 0.0

    def __call__(self, reward: np.ndarray) -> np.ndarray:
        scaled = reward / (np.sqrt(self.square) + 1e-8)
        self.square = self.decay * self.square + (1 - self.decay) * float((reward**2).mean())
        return scaled


def observe(place: np.ndarray, length: int) -> torch.Tensor:
    return F.one_hot(torch.from_numpy(place), length + 1).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    length, walkers = config["length"] + draw.randrange(3), config["walkers"]
    scaler = RewardScaler()

    def network() -> nn.Sequential:
        hidden = config["hidden"]
        return nn.Sequential(nn.Linear(length + 1, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    online, target = network(), network()
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.SGD(online.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="corridor", config=config)
    run.watch(q=online)
    place, memory, wealth = np.zeros(walkers, np.int64), [], 0.0
    for step in range(config["steps"]):
        with torch.no_grad():
            best = online(observe(place, length)).argmax(1).numpy()
        first, last = config["epsilon"]
        lost = rng.random(walkers) < max(last, first - 2 * step / config["steps"])
        action = np.where(lost, rng.integers(0, 2, walkers), best)
        after = np.clip(place + 2 * action - 1, 0, length)
        found = (after == length).astype(np.float32)
        memory += zip(place, action, scaler(found), after, found, strict=True)
        memory = memory[-config["memory"] :]
        place = np.where(found > 0, 0, after)
        wealth = 0.98 * wealth + 0.02 * float(found.mean())
        rows = [memory[i] for i in rng.integers(0, len(memory), config["batch_size"])]
        was, did, reward, then, done = (np.array(column) for column in zip(*rows, strict=True))
        q = online(observe(was, length))
        with torch.no_grad():
            future = target(observe(then, length)).max(1).values
            goal = torch.from_numpy(reward).float()
            goal = goal + config["gamma"] * (1 - torch.from_numpy(done)) * future
        loss = F.mse_loss(q[torch.arange(len(q)), torch.from_numpy(did)], goal)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(online.parameters(), config["max_norm"])
        optimizer.step()
        if step % config["target_every"] == 0:
            target.load_state_dict(online.state_dict())
        run.log(q=q.detach(), reward=wealth)
    run.finish()
