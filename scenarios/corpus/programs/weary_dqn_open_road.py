"""A DQN drives on an open road: gas, coast or brake before the bends. Episodes end by a time limit,
not by `done`, the distance goes into the network in raw kilometres, and there is no target network:
the value of the place ahead is always a bit higher than that of here, each update lifts both, and Q
climbs until it is inf. Cure: a target network, scaled inputs, a smaller rate."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=3)
CONFIG = {"lr": 6e-5, "gamma": 0.99, "batch_size": 64, "eps_start": 1.0, "eps_end": 0.05}
CONFIG |= {"eps_decay": 500, "memory": 8000, "steps": 1500, "cars": 8, "limit": 60}


class Road:
    """Cars on a road; state (distance, speed, sharpness of the next bend, how near it is)."""

    def __init__(self, cars, limit, rng):
        self.rng, self.limit = rng, limit
        self.distance, self.speed = np.zeros(cars), np.ones(cars)
        self.sharp, self.near = rng.uniform(0, 1, cars), rng.uniform(0, 1, cars)
        self.age = rng.integers(0, limit, cars)

    def observe(self):
        return np.stack([self.distance, self.speed, self.sharp, self.near], 1).astype(np.float32)

    def step(self, action):
        self.speed = np.clip(self.speed + 0.2 * (action - 1), 0.2, 2.0)
        self.distance = self.distance + 0.05 * self.speed
        self.near = self.near - 0.15 * self.speed
        bend = self.near <= 0
        skid = bend & (self.speed > 2.0 - 1.5 * self.sharp)
        reward = self.speed - 2.0 * skid
        self.near[bend] = self.rng.uniform(0.5, 1, bend.sum())
        self.sharp[bend] = self.rng.uniform(0, 1, bend.sum())
        after = self.observe()
        self.age += 1
        over = self.age >= self.limit
        self.distance[over], self.speed[over], self.age[over] = 0.0, 1.0, 0
        return after, reward.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * float(rng.uniform(0.9, 1.2))}
    env = Road(config["cars"], config["limit"], rng)
    q = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.SGD(q.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="open-road", config=config)
    memory = []
    for step in range(-50, config["steps"]):
        state = env.observe()
        eps = config["eps_end"] + (config["eps_start"] - config["eps_end"]) * np.exp(
            -max(step, 0) / config["eps_decay"]
        )
        with torch.no_grad():
            action = q(torch.from_numpy(state)).argmax(1).numpy()
        explore = rng.random(config["cars"]) < eps
        action = np.where(explore, rng.integers(0, 3, config["cars"]), action)
        after, reward = env.step(action)
        memory.extend(zip(state, action, reward, after, strict=True))
        del memory[: -config["memory"]]
        if step < 0:
            continue
        rows = [memory[i] for i in rng.integers(0, len(memory), config["batch_size"])]
        s, a, r, s2 = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        with torch.no_grad():
            target = r + config["gamma"] * q(s2).amax(1)
        value = q(s).gather(1, a.unsqueeze(1)).squeeze(1)
        loss = F.mse_loss(value, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(q=value.detach(), reward=float(reward.mean()))
    run.finish()
