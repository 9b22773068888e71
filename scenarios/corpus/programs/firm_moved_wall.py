"""Dyna: a Q-net and a model of a small warehouse learn from the same steps. After half of the run a
wall is moved: both losses jump, the reward falls to nothing for a while, and both come back.
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

ABOUT = About(family="rl-model-based", sick=False, seeds=4)
CONFIG = {"lr": 4e-3, "model_lr": 4e-3, "gamma": 0.9, "tau": 0.1, "explore": 0.25, "side": 4}
CONFIG |= {"robots": 20, "hidden": 48, "batch_size": 40, "steps": 700, "moved_at": 350}
MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Warehouse:
    """Robots on a grid with a wall that has one door; the shelf is in the far corner."""

    def __init__(self, robots: int, side: int, seed: int) -> None:
        self.rng, self.side, self.door = np.random.default_rng(seed), side, 0
        self.place = self.rng.integers(0, side, (robots, 2))

    def observe(self) -> np.ndarray:
        return np.eye(self.side**2, dtype=np.float32)[self.place @ [self.side, 1]]

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(reward, where they came to, done); who is done begins anew."""
        wanted = np.clip(self.place + MOVES[action], 0, self.side - 1)
        wall = (wanted[:, 0] == self.side // 2) & (wanted[:, 1] != self.door)
        self.place = np.where(wall[:, None], self.place, wanted)
        done = (self.place == self.side - 1).all(1)
        after = self.observe()
        fresh = self.rng.integers(0, [2, self.side], self.place.shape)
        self.place = np.where(done[:, None], fresh, self.place)
        return done.astype(np.float32), after, done.astype(np.float32)


class Model(nn.Module):
    """Place (logits) and reward after a move."""

    def __init__(self, places: int, hidden: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(places + 4, hidden), nn.Linear(hidden, places + 1)

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.out(F.relu(self.into(torch.cat([obs, F.one_hot(action, 4).float()], dim=1))))
        return out[:, :-1], out[:, -1]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    places, hidden, batch = config["side"] ** 2, config["hidden"], config["batch_size"]
    house = Warehouse(config["robots"], config["side"], seed)
    replay = Replay(2400, places, 1, seed)
    q = nn.Sequential(nn.Linear(places, hidden), nn.ReLU(), nn.Linear(hidden, 4))
    slow = copy.deepcopy(q).requires_grad_(False)
    model = Model(places, hidden)
    optimizer = torch.optim.Adam(q.parameters(), lr=config["lr"])
    model_optimizer = torch.optim.Adam(model.parameters(), lr=config["model_lr"])
    run = nanwatch.init(project="corpus", name="warehouse-dyna", config=config)
    run.watch(q=q, model=model)
    paid: list[float] = []
    for step in range(-20, config["steps"]):
        if step == config["moved_at"]:
            house.door = 2
        obs = house.observe()
        with torch.no_grad():
            action = q(torch.from_numpy(obs)).argmax(1).numpy()
        wild = house.rng.random(len(action)) < config["explore"]
        action = np.where(wild, house.rng.integers(0, 4, len(action)), action)
        reward, after, done = house.step(action)
        replay.add(obs, action.astype(np.float32), reward, after, done)
        paid.append(float(reward.mean()))
        if step < 0:
            continue
        before, taken, won, then, over = map(torch.from_numpy, replay.sample(batch))
        taken, won, over = taken.long().view(-1), won.view(-1), over.view(-1)
        place, gained = model(before, taken)
        model_loss = F.cross_entropy(place, then.argmax(1)) + F.mse_loss(gained, won)
        model_optimizer.zero_grad()
        model_loss.backward()
        model_optimizer.step()
        other = torch.randint(4, (batch,))
        with torch.no_grad():  # real steps, and as many that the model makes up
            place, gained = model(before, other)
            dreamt = F.one_hot(place.argmax(1), places).float()
            target = slow(torch.cat([then, dreamt])).max(1).values
            target = config["gamma"] * (1 - torch.cat([over, dreamt[:, -1]])) * target
            target = target + torch.cat([won, gained])
        chosen = torch.cat([taken, other]).view(-1, 1)
        loss = F.smooth_l1_loss(q(before.repeat(2, 1)).gather(1, chosen).squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), q.parameters(), strict=True):
                old.lerp_(new, config["tau"])
        run.log(reward=float(np.mean(paid[-20:])))
    run.finish()
