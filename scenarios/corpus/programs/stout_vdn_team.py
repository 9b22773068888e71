"""Three robots learn to carry together (value decomposition, one shared net): the team is paid if
each goes to another of three stations. Pay is rare at first and noisy, exploration fades, values
rise.
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
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-multi-agent", sick=False, seeds=4)
CONFIG = {"lr": 2e-3, "gamma": 0.9, "tau": 0.05, "robots": 3, "rooms": 8, "hidden": 48}
CONFIG |= {"batch_size": 48, "explore_until": 450, "epsilon": 0.05, "max_norm": 10.0, "steps": 800}


class Rooms:
    """Places of the robots on a line of three stations; moves: left, stay, right; some fail."""

    def __init__(self, rooms: int, slip: float, seed: int) -> None:
        self.rng, self.slip = np.random.default_rng(seed), slip
        self.place = self.rng.integers(0, 3, (rooms, 3))
        self.load = self.rng.integers(0, 3, rooms)

    def observe(self) -> np.ndarray:
        seen = [np.eye(3)[self.place].reshape(len(self.place), -1), np.eye(3)[self.load]]
        return np.concatenate(seen, 1).astype(np.float32)

    def step(self, moves: np.ndarray) -> np.ndarray:
        moves = np.where(self.rng.random(moves.shape) < self.slip, 1, moves)
        self.place = np.clip(self.place + moves - 1, 0, 2)
        wanted = (np.arange(3)[None] + self.load[:, None]) % 3
        reward = (self.place == wanted).all(1) - 0.05 * (moves != 1).sum(1)
        changed = self.rng.random(len(reward)) < 0.3
        self.load = np.where(changed, self.rng.integers(0, 3, len(reward)), self.load)
        return reward.astype(np.float32)


class Team(nn.Module):
    """Values of the moves of each robot: [rows, robots, 3]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(15, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 3),
        )  # fmt: skip

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        who = torch.eye(3).expand(len(obs), 3, 3)
        return self.net(torch.cat([obs[:, None].expand(-1, 3, -1), who], 2))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    rooms = Rooms(config["rooms"], draw.uniform(0.0, 0.1), seed)
    replay, team = Replay(5000, 12, 3, seed), Team(config["hidden"])
    slow = copy.deepcopy(team).requires_grad_(False)
    optimizer = torch.optim.RMSprop(team.parameters(), lr=config["lr"], alpha=0.99, eps=1e-5)
    run = nanwatch.init(project="corpus", name="carriers-vdn", config=config)
    run.watch(team)
    for step in range(-30, config["steps"]):
        obs = rooms.observe()
        with torch.no_grad():
            moves = team(torch.from_numpy(obs)).argmax(2).numpy()
        explore = max(config["epsilon"], 1 - max(0, step) / config["explore_until"])
        drawn = rooms.rng.random(moves.shape) < explore
        moves = np.where(drawn, rooms.rng.integers(0, 3, moves.shape), moves)
        reward = rooms.step(moves)
        after = rooms.observe()
        replay.add(obs, moves.astype(np.float32), reward, after, np.zeros_like(reward))
        if step < 0:
            continue
        before, taken, paid, later, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            best = team(later).argmax(2, keepdim=True)
            following = slow(later).gather(2, best).sum((1, 2))
            target = paid.squeeze(1) + config["gamma"] * following
        found = team(before).gather(2, taken.long()[..., None]).sum((1, 2))
        loss = F.mse_loss(found, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(team.parameters(), config["max_norm"])
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), team.parameters(), strict=True):
                old.lerp_(new, config["tau"])
        run.log(reward=reward.mean(), q=found.detach())
    run.finish()
