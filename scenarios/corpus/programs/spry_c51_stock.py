"""A distributional Q-learner (C51) orders stock for a shop. Rewards are in hundreds, the atoms span
what can be earned; the cross entropy rises while the values spread out, and the shop earns more."""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=4)
CONFIG = {
    "lr": 1e-3,
    "gamma": 0.9,
    "low": -2.0,
    "high": 3.0,
    "unit": 0.01,
    "atoms": 21,
    "rent": 4.0,
}
CONFIG |= {"shops": 8, "hidden": 48, "batch_size": 32, "steps": 900, "renew": 40, "decay": 350}
ORDERS = 5


class Shops:
    """Stock, and what the season asks for; unsold goods cost, so do lost customers."""

    def __init__(self, shops: int, seed: int, price: float) -> None:
        self.rng, self.price = np.random.default_rng(seed), price
        self.stock = self.rng.integers(0, 12, shops).astype(np.float32)
        self.season = self.rng.uniform(0, 2 * np.pi, shops)

    def observe(self) -> np.ndarray:
        wave = np.stack([np.sin(self.season), np.cos(self.season)], axis=1)
        return np.concatenate([self.stock[:, None] / 10, wave], axis=1).astype(np.float32)

    def step(self, order: np.ndarray) -> np.ndarray:
        stock = self.stock + 3 * order
        asked = self.rng.poisson(5 + 4 * np.sin(self.season))
        sold = np.minimum(stock, asked)
        self.stock = np.minimum(stock - sold, 20).astype(np.float32)
        self.season = self.season + 0.25
        reward = (
            self.price * sold - 6 * order - 1.5 * self.stock - 2 * (asked - sold) + CONFIG["rent"]
        )
        return reward.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, price = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(4.5, 6.0)
    config = CONFIG | {"seed": seed, "lr": lr, "price": price}
    env, replay = Shops(config["shops"], seed, price), Replay(4000, 3, 1, seed)
    atoms, hidden = config["atoms"], config["hidden"]
    net = nn.Sequential(
        nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, ORDERS * atoms), nn.Unflatten(1, (ORDERS, atoms)),
    )  # fmt: skip
    slow = copy.deepcopy(net).requires_grad_(False)
    values = torch.linspace(config["low"], config["high"], atoms)
    gap = values[1] - values[0]
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="shop-c51", config=config)
    run.watch(net=net)
    for step in range(-20, config["steps"]):
        obs = env.observe()
        with torch.no_grad():
            order = (net(torch.from_numpy(obs)).softmax(2) @ values).argmax(1).numpy()
        explore = env.rng.random(len(order)) < max(0.05, 1 - max(step, 0) / config["decay"])
        order = np.where(explore, env.rng.integers(0, ORDERS, len(order)), order)
        earned = env.step(order)
        reward = (config["unit"] * earned).astype(np.float32)
        taken = order[:, None].astype(np.float32)
        replay.add(obs, taken, reward, env.observe(), np.zeros_like(reward))
        if step < 0:
            continue
        before, taken, paid, after, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            chances = slow(after).softmax(2)
            best = (chances @ values).argmax(1)
            chances = chances[torch.arange(len(best)), best]
            moved = paid.view(-1, 1) + config["gamma"] * values
            place = (moved.clamp(config["low"], config["high"]) - config["low"]) / gap
            share = (1 - (place[:, None, :] - torch.arange(atoms)[:, None]).abs()).clamp(min=0)
            target = (share * chances[:, None, :]).sum(2)
        logp = net(before).log_softmax(2)[torch.arange(len(best)), taken.view(-1).long()]
        loss = -(target * logp).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config["renew"] == 0:
            slow.load_state_dict(net.state_dict())
        run.log(reward=earned.mean())
    run.finish()
