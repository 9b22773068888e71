"""A deep Q-learner opens the gates of eight reservoirs. The environment changes its array of states
in place, and the replay keeps that array itself instead of a copy: all states in it are the newest
ones, beside actions and rewards of long ago. Cure: copy what is observed.
"""

from __future__ import annotations

import copy
import random
from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="replay-corruption", seeds=4)
CONFIG = {"lr": 1e-3, "gamma": 0.9, "reservoirs": 8, "hidden": 32, "batch_size": 32}
CONFIG |= {"steps": 900, "renew": 50, "capacity": 400, "decay": 300}


class Reservoirs:
    """Level, inflow, and what is asked for downstream; gates closed, half open, or open."""

    def __init__(self, count: int, seed: int, wind: float) -> None:
        self.rng, self.wind = np.random.default_rng(seed), wind
        self.states = self.rng.normal(0, 0.5, (count, 3)).astype(np.float32)

    def step(self, actions: np.ndarray) -> np.ndarray:
        level, inflow, wanted = self.states.T
        level += 0.3 * inflow - 0.5 * (actions - 1)
        reward = -np.abs(level - wanted)
        np.clip(level, -2, 2, out=level)
        inflow += -0.1 * inflow + self.wind * self.rng.normal(size=len(inflow))
        wanted += -0.02 * wanted + 0.1 * self.rng.normal(size=len(wanted))
        return reward.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, wind = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.4)
    config = CONFIG | {"seed": seed, "lr": lr, "wind": wind}
    env = Reservoirs(config["reservoirs"], seed, wind)
    hidden = config["hidden"]
    q = nn.Sequential(
        nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3)
    )
    slow = copy.deepcopy(q).requires_grad_(False)
    optimizer = torch.optim.Adam(q.parameters(), lr=lr)
    replay: deque = deque(maxlen=config["capacity"])
    run = nanwatch.init(project="corpus", name="reservoirs-dqn", config=config)
    run.watch(q=q)
    for step in range(-20, config["steps"]):
        states = env.states
        with torch.no_grad():
            actions = q(torch.from_numpy(states)).argmax(1).numpy()
        explore = env.rng.random(len(actions)) < max(0.05, 1 - step / config["decay"])
        actions = np.where(explore, env.rng.integers(0, 3, len(actions)), actions)
        rewards = env.step(actions)
        replay.append((states, actions, rewards, env.states))
        if step < 0:
            continue
        picked = [replay[i] for i in env.rng.integers(0, len(replay), config["batch_size"] // 8)]
        before, taken, paid, after = (
            torch.from_numpy(np.concatenate(part)) for part in zip(*picked, strict=True)
        )
        with torch.no_grad():
            target = paid + config["gamma"] * slow(after).max(1).values
        loss = F.smooth_l1_loss(q(before).gather(1, taken[:, None]).squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config["renew"] == 0:
            slow.load_state_dict(q.state_dict())
        run.log(reward=rewards.mean())
    run.finish()
