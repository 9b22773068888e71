"""A double DQN drives a vacuum cleaner through a room of 5 by 5: a point for each dirty tile, a
small cost for each step, ten for the last tile. Replay of the last 6000 steps, epsilon from 1 to
0.05, a target network copied every hundred updates, Huber loss, clipped at 10, Adam. Q grows as
cleaning is learned, the loss with it, and leaps a bit with each copy. Nothing is wrong."""

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

ABOUT = About(family="rl-off-policy", sick=False, seeds=3)
CONFIG = {"lr": 1.5e-3, "gamma": 0.95, "batch_size": 64, "envs": 8, "updates": 1300, "hidden": 96}
CONFIG |= {"buffer": 6000, "copy_every": 100, "max_norm": 10.0, "size": 5, "limit": 50}
MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Room:
    """Where the cleaner is, and which tiles are dirty."""

    def __init__(self, copies: int, size: int, limit: int, dirt: float, seed: int) -> None:
        self.rng, self.copies, self.size = np.random.default_rng(seed), copies, size
        self.limit, self.dirt = limit, dirt
        self.place, self.dirty = self._fresh(copies)
        self.age = self.rng.integers(0, limit, copies)

    def _fresh(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        place = self.rng.integers(0, self.size, (count, 2))
        dirty = self.rng.random((count, self.size, self.size)) < self.dirt
        dirty[:, 0, 0] = True
        return place, dirty

    def observe(self) -> np.ndarray:
        eye = np.eye(self.size)
        parts = [eye[self.place[:, 0]], eye[self.place[:, 1]], self.dirty.reshape(self.copies, -1)]
        return np.concatenate(parts, 1).astype(np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.place = np.clip(self.place + MOVES[action], 0, self.size - 1)
        at = (np.arange(self.copies), self.place[:, 0], self.place[:, 1])
        got = self.dirty[at]
        self.dirty[at] = False
        done = ~self.dirty.any((1, 2))
        reward = got - 0.1 + 10 * done
        later = self.observe()
        self.age += 1
        over = done | (self.age >= self.limit)
        self.place[over], self.dirty[over] = self._fresh(int(over.sum()))
        self.age[over] = 0
        return reward.astype(np.float32), later, done.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    size, hidden = config["size"], config["hidden"]
    env = Room(config["envs"], size, config["limit"], draw.uniform(0.15, 0.25), seed)
    inputs = 2 * size + size**2
    q_net = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                          nn.ReLU(), nn.Linear(hidden, 4))  # fmt: skip
    target = copy.deepcopy(q_net)
    optimizer = torch.optim.Adam(q_net.parameters(), lr=config["lr"])
    replay = Replay(config["buffer"], inputs, 1, seed)
    run = nanwatch.init(project="corpus", name="vacuum-dqn", config=config)
    for update in range(-60, config["updates"]):
        seen = env.observe()
        with torch.no_grad():
            action = q_net(torch.from_numpy(seen)).argmax(1).numpy()
        epsilon = max(0.05, 1 - max(update, 0) / 600)
        explore = rng.random(config["envs"]) < epsilon
        action = np.where(explore, rng.integers(0, 4, config["envs"]), action)
        reward, later, done = env.step(action)
        replay.add(seen, action.astype(np.float32), reward, later, done)
        if update < 0:
            continue
        state, did, paid, after, over = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            best = q_net(after).argmax(1, keepdim=True)
            goal = paid + config["gamma"] * (1 - over) * target(after).gather(1, best)
        q = q_net(state).gather(1, did.long())
        loss = F.smooth_l1_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q_net.parameters(), config["max_norm"])
        optimizer.step()
        if update % config["copy_every"] == 0:
            target.load_state_dict(q_net.state_dict())
        run.log(reward=float(reward.mean()), q=q.detach())
    run.finish()
