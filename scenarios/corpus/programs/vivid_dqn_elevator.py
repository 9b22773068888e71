"""A DQN runs a lift in a house of six floors: up, down, open. The target network is copied every
150 updates, and each time the loss jumps and heals; epsilon falls from 1 to 0.05, Huber loss,
Adam, gradients clipped at 10. Rewards are passengers who got out, less a little for those who
wait; values grow for most of the training. Nothing is wrong."""

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
CONFIG = {"lr": 1e-3, "gamma": 0.95, "batch_size": 64, "envs": 8, "updates": 1600, "hidden": 64}
CONFIG |= {"target_every": 150, "buffer": 10_000, "max_norm": 10.0}


class Lift:
    """At most one passenger waits on a floor; all of them want to go to the ground floor."""

    def __init__(self, copies: int, floors: int, seed: int) -> None:
        self.rng, self.copies, self.floors = np.random.default_rng(seed), copies, floors
        self.at = self.rng.integers(0, floors, copies)
        self.aboard = np.zeros(copies)
        self.waits = self.rng.random((copies, floors)) < 0.3
        self.waits[:, 0] = False

    def observe(self) -> np.ndarray:
        place = np.eye(self.floors)[self.at]
        return np.concatenate([place, self.waits, self.aboard[:, None] / 2], 1).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        self.at = np.clip(self.at + (action == 0) - (action == 1), 0, self.floors - 1)
        opens, rows = action == 2, np.arange(self.copies)
        out = opens & (self.at == 0)
        reward = np.where(out, self.aboard, 0.0) - 0.05 * self.waits.sum(1)
        self.aboard = np.where(out, 0, self.aboard)
        gets_in = opens & self.waits[rows, self.at] & (self.aboard < 4)
        self.aboard = self.aboard + gets_in
        self.waits[rows[gets_in], self.at[gets_in]] = False
        self.waits |= self.rng.random(self.waits.shape) < 0.03
        self.waits[:, 0] = False
        return reward.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    floors, hidden, envs = draw.choice([5, 6]), config["hidden"], config["envs"]
    env = Lift(envs, floors, seed)
    q_net = nn.Sequential(nn.Linear(2 * floors + 1, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                          nn.ReLU(), nn.Linear(hidden, 3))  # fmt: skip
    q_target = copy.deepcopy(q_net)
    optimizer = torch.optim.Adam(q_net.parameters(), lr=config["lr"])
    replay = Replay(config["buffer"], 2 * floors + 1, 1, seed)
    run = nanwatch.init(project="corpus", name="lift-dqn", config=config)
    for update in range(-100, config["updates"]):
        epsilon = max(0.05, 1 - update / 500)
        seen = env.observe()
        with torch.no_grad():
            action = q_net(torch.from_numpy(seen)).argmax(1).numpy()
        action = np.where(rng.random(envs) < epsilon, rng.integers(0, 3, envs), action)
        reward = env.step(action)
        replay.add(seen, action.astype(np.float32), reward, env.observe(), np.zeros(envs))
        if update < 0:
            continue
        state, did, paid, later, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            goal = paid + config["gamma"] * q_target(later).max(1, keepdim=True).values
        q = q_net(state).gather(1, did.long())
        loss = F.smooth_l1_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q_net.parameters(), config["max_norm"])
        optimizer.step()
        if update % config["target_every"] == 0:
            q_target.load_state_dict(q_net.state_dict())
        run.log(reward=float(reward.mean()), q=q.detach())
    run.finish()
