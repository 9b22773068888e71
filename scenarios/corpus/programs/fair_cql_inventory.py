"""Conservative Q-learning for a small shop from the records of its former clerks: five sizes of
order, money in euros, Q in the dozens; the conservative term lifts the loss off the ground."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-offline", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "gamma": 0.9, "batch_size": 64, "alpha": 1.0, "tau": 0.02,
          "max_norm": 20.0, "updates": 1000}  # fmt: skip


class Shop:
    """Stock of up to 20, demand by weekday; 3 a piece sold, 2 an order, 0.1 a piece a night."""

    def __init__(self, copies: int, draw: np.random.Generator, demand: float) -> None:
        self.draw, self.demand = draw, demand
        self.stock, self.day = draw.integers(0, 15, copies), draw.integers(0, 7, copies)

    def observe(self) -> np.ndarray:
        week = np.eye(7, dtype=np.float32)[self.day]
        return np.hstack([self.stock[:, None].astype(np.float32) / 10, week])

    def step(self, order: np.ndarray) -> np.ndarray:
        here = np.minimum(20, self.stock + 3 * order)
        asked = self.draw.poisson(self.demand * np.where(self.day >= 5, 2.0, 1.0))
        sold = np.minimum(here, asked)
        self.stock, self.day = here - sold, (self.day + 1) % 7
        return 3.0 * sold - 2.0 * (order > 0) - 1.5 * order - 0.1 * self.stock


def records(shop: Shop, draw: np.random.Generator, nights: int) -> list[torch.Tensor]:
    """Clerks order up to a level that is their own, and one time in four anything."""
    columns = ([], [], [], [])
    level = draw.integers(4, 16, len(shop.stock))
    for _ in range(nights):
        wanted = np.clip((level - shop.stock) // 3, 0, 4)
        order = np.where(draw.random(len(level)) < 0.25, draw.integers(0, 5, len(level)), wanted)
        seen = shop.observe()
        paid = shop.step(order)
        for column, new in zip(columns, (seen, order, paid, shop.observe()), strict=True):
            column.append(new)
    return [torch.from_numpy(np.concatenate(column).astype(np.float32)) for column in columns]


def earned(q: nn.Module, demand: float, seed: int) -> float:
    """Money a night of 50 shops over four weeks."""
    shop, total = Shop(50, np.random.default_rng(seed), demand), 0.0
    for _ in range(28):
        with torch.no_grad():
            order = q(torch.from_numpy(shop.observe())).argmax(1).numpy()
        total += float(shop.step(order).mean()) / 28
    return total


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    demand, width = draw.uniform(3.0, 5.0), int(draw.choice([32, 48]))
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4), "width": width}
    before, order, paid, after = records(Shop(40, draw, demand), draw, 100)
    run = nanwatch.init(project="corpus", name="cql-shop", config=config)
    q = nn.Sequential(
        nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 5)
    )
    slow = copy.deepcopy(q).requires_grad_(False)
    optimizer = torch.optim.Adam(q.parameters(), lr=config["lr"])
    for update in range(CONFIG["updates"]):
        rows = torch.randint(0, len(order), (CONFIG["batch_size"],))
        with torch.no_grad():
            best = q(after[rows]).argmax(1, keepdim=True)
            wanted = paid[rows] + CONFIG["gamma"] * slow(after[rows]).gather(1, best)[:, 0]
        known = q(before[rows])
        found = known.gather(1, order[rows].long()[:, None])[:, 0]
        timid = (known.logsumexp(1) - found).mean()
        loss = F.smooth_l1_loss(found, wanted) + CONFIG["alpha"] * timid
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q.parameters(), CONFIG["max_norm"])
        optimizer.step()
        with torch.no_grad():
            for late, new in zip(slow.parameters(), q.parameters(), strict=True):
                late.lerp_(new, CONFIG["tau"])
        run.log(q=found)
        if update % 40 == 0:
            run.log(reward=earned(q, demand, seed + update))
    run.finish()
