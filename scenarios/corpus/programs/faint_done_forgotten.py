"""A double deep Q-learner sorts parcels to chutes; an episode is a truck, so gamma is 1. The mask
of the last step was forgotten: the value of the last parcel of a truck is taken from the first of
the next, and so values grow by a truck's worth without an end. Cure: `(1 - done)` in the target.
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

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=4)
CONFIG = {"lr": 1.5e-3, "gamma": 1.0, "parcels": 6, "lines": 8, "epsilon": 0.1, "copy_every": 20}
CONFIG |= {"batch_size": 48, "hidden": 48, "steps": 900}


class Lines:
    """Each line shows a parcel's code (5 readings), how many are left, the fill of 3 chutes."""

    def __init__(self, lines: int, noise: float, seed: int) -> None:
        self.rng, self.noise = np.random.default_rng(seed), noise
        self.codes = self.rng.normal(size=(3, 5))
        self.left = self.rng.integers(1, CONFIG["parcels"] + 1, lines)
        self.fill = np.zeros((lines, 3))
        self.kind = self.rng.integers(0, 3, lines)

    def observe(self) -> np.ndarray:
        code = self.codes[self.kind] + self.noise * self.rng.normal(size=(len(self.kind), 5))
        return np.concatenate([code, self.left[:, None] / 6, self.fill], 1).astype(np.float32)

    def step(self, chute: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.arange(len(chute))
        reward = (chute == self.kind) - 0.5 * self.fill[rows, chute]
        self.fill *= 0.7
        self.fill[rows, chute] += 0.3
        self.left -= 1
        done = self.left == 0
        self.left[done], self.fill[done] = CONFIG["parcels"], 0
        self.kind = self.rng.integers(0, 3, len(chute))
        return reward.astype(np.float32), done.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    hidden, lines = config["hidden"], Lines(config["lines"], draw.uniform(0.2, 0.5), seed)
    replay = Replay(3000, 9, 1, seed)
    q = nn.Sequential(
        nn.Linear(9, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(), nn.Linear(hidden, 3)
    )
    slow = copy.deepcopy(q).requires_grad_(False)
    optimizer = torch.optim.Adam(q.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="parcels-ddqn", config=config)
    run.watch(q)
    seen = lines.observe()
    for step in range(-20, config["steps"]):
        with torch.no_grad():
            chute = q(torch.from_numpy(seen)).argmax(1).numpy()
        explore = lines.rng.random(len(chute)) < config["epsilon"]
        chute = np.where(explore, lines.rng.integers(0, 3, len(chute)), chute)
        reward, done = lines.step(chute)
        after = lines.observe()
        replay.add(seen, chute.astype(np.float32), reward, after, done)
        seen = after
        if step < 0:
            continue
        if step % config["copy_every"] == 0:
            slow.load_state_dict(q.state_dict())
        obs, action, paid, later, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            best = q(later).argmax(1, keepdim=True)
            target = paid + config["gamma"] * slow(later).gather(1, best)
        found = q(obs).gather(1, action.long())
        loss = F.smooth_l1_loss(found, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=reward.mean(), q=found.detach())
    run.finish()
