"""A deep Q-learner flies a drone to its pad. The replay buffer was taken from a script for video
games and keeps observations as bytes; here they are numbers between 0 and 1, of which only zeros
are left. It learns from memories in which all places are the same, and never finds the pad. Cure:
float32 in the buffer.
"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="replay-corruption", seeds=3)
CONFIG = {"lr": 1e-3, "gamma": 0.95, "batch_size": 64, "envs": 8, "steps": 2300, "hidden": 64}
CONFIG |= {"target_every": 50, "buffer_size": 12_000, "explore": 700}


class Drones:
    """Drones in the unit square; (x, y) of drone and pad; five actions; -distance, 1 on a pad."""

    moves = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32) * 0.08

    def __init__(self, count: int, wind: float, seed: int) -> None:
        self.rng, self.wind = np.random.default_rng(seed), wind
        self.place, self.pad = self.rng.random((2, count, 2), dtype=np.float32)
        self.age = self.rng.integers(0, 30, count)

    def observe(self) -> np.ndarray:
        return np.concatenate([self.place, self.pad], axis=1)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gust = self.rng.normal(0, self.wind, self.place.shape).astype(np.float32)
        self.place = np.clip(self.place + self.moves[action] + gust, 0, 0.999)
        distance = np.linalg.norm(self.place - self.pad, axis=1)
        landed = distance < 0.08
        self.age += 1
        over = landed | (self.age >= 30)
        fresh = self.rng.random((2, int(over.sum()), 2), dtype=np.float32)
        self.place[over], self.pad[over] = fresh
        self.age[over] = 0
        return np.where(landed, 1.0, -distance).astype(np.float32), landed.astype(np.float32)


class ReplayBuffer:
    def __init__(self, size: int, observations: int, seed: int) -> None:
        self.observations = np.zeros((size, observations), np.uint8)
        self.following = np.zeros((size, observations), np.uint8)
        self.actions = np.zeros(size, np.int64)
        self.rewards, self.dones = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self.rng, self.size, self.count = np.random.default_rng(seed), size, 0

    def add(self, obs, action, reward, following, done) -> None:
        at = np.arange(self.count, self.count + len(obs)) % self.size
        self.observations[at], self.following[at] = obs, following
        self.actions[at], self.rewards[at], self.dones[at] = action, reward, done
        self.count += len(obs)

    def sample(self, batch: int) -> list[torch.Tensor]:
        at = self.rng.integers(0, min(self.count, self.size), batch)
        columns = (self.observations, self.actions, self.rewards, self.following, self.dones)
        return [torch.from_numpy(column[at]) for column in columns]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = Drones(config["envs"], draw.uniform(0.005, 0.02), seed)
    hidden = config["hidden"]
    q_net = nn.Sequential(
        nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 5)
    )
    q_target = copy.deepcopy(q_net)
    optimizer = torch.optim.Adam(q_net.parameters(), lr=config["lr"])
    memory = ReplayBuffer(config["buffer_size"], 4, seed)
    run = nanwatch.init(project="corpus", name="drone-pads", config=config)
    for step in range(config["steps"]):
        obs = env.observe()
        with torch.no_grad():
            action = q_net(torch.from_numpy(obs)).argmax(1).numpy()
        lost = rng.random(len(obs)) < max(0.05, 1 - step / config["explore"])
        action = np.where(lost, rng.integers(0, 5, len(obs)), action)
        reward, done = env.step(action)
        memory.add(obs, action, reward, env.observe(), done)
        if step < 20:
            continue
        before, taken, paid, after, over = memory.sample(config["batch_size"])
        with torch.no_grad():
            goal = paid + config["gamma"] * (1 - over) * q_target(after.float()).max(1).values
        q = q_net(before.float()).gather(1, taken.unsqueeze(1)).squeeze(1)
        loss = F.smooth_l1_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config["target_every"] == 0:
            q_target.load_state_dict(q_net.state_dict())
        run.log(reward=float(reward.mean()))
    run.finish()
