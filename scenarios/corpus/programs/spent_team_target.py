"""Four pumps share a Q-net and a team reward (value decomposition). Each pump's own value is fitted
to the team's target, the reward plus gamma times the sum of all four values, instead of the sum of
values to it: whatever a value is, four times as much is wanted of it next. Cure: sum both sides.
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
CONFIG = {"lr": 1e-3, "gamma": 0.9, "pumps": 4, "hidden": 48, "batch_size": 24, "steps": 650}
CONFIG |= {"renew": 25, "decay": 300, "max_norm": 10.0}


class Pipes:
    """Pressure at each of the pumps, which leaks to the neighbours, and the demand there."""

    def __init__(self, networks: int, pumps: int, seed: int, leak: float) -> None:
        self.rng, self.leak = np.random.default_rng(seed), leak
        self.pressure = self.rng.normal(0, 0.5, (networks, pumps))
        self.demand = self.rng.normal(0, 0.5, (networks, pumps))

    def observe(self) -> np.ndarray:
        """Three numbers for each pump, one pump after the other."""
        around = self.pressure.mean(1, keepdims=True) + 0 * self.pressure
        seen = np.stack([self.pressure, self.demand, around], axis=2)
        return seen.reshape(len(seen), -1).astype(np.float32)

    def step(self, power: np.ndarray) -> np.ndarray:
        flow = self.leak * (self.pressure.mean(1, keepdims=True) - self.pressure)
        pressure = self.pressure + flow + 0.4 * (power - 1) - 0.2 * self.demand
        self.pressure = np.clip(pressure, -2, 2)
        noise = self.rng.normal(size=self.demand.shape)
        self.demand = 0.9 * self.demand + 0.3 * noise
        return (1 - np.abs(self.pressure).mean(1)).astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, leak = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.1, 0.3)
    config = CONFIG | {"seed": seed, "lr": lr, "leak": leak}
    pumps, hidden = config["pumps"], config["hidden"]
    env, replay = Pipes(4, pumps, seed, leak), Replay(3000, 3 * pumps, pumps, seed)
    q = nn.Sequential(
        nn.Unflatten(1, (pumps, 3)), nn.Linear(3, hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3),
    )  # fmt: skip
    slow = copy.deepcopy(q).requires_grad_(False)
    optimizer = torch.optim.Adam(q.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="pumps-vdn", config=config)
    run.watch(q=q)
    for step in range(-20, config["steps"]):
        obs = env.observe()
        with torch.no_grad():
            power = q(torch.from_numpy(obs)).argmax(2).numpy()
        explore = env.rng.random(power.shape) < max(0.05, 1 - max(step, 0) / config["decay"])
        power = np.where(explore, env.rng.integers(0, 3, power.shape), power)
        reward = env.step(power)
        replay.add(obs, power.astype(np.float32), reward, env.observe(), np.zeros_like(reward))
        if step < 0:
            continue
        before, taken, paid, after, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            team = slow(after).max(2).values.sum(1)
            target = (paid + config["gamma"] * team[:, None]).expand(-1, pumps)
        values = q(before).gather(2, taken.long()[:, :, None]).squeeze(2)
        loss = F.smooth_l1_loss(values, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q.parameters(), config["max_norm"])
        optimizer.step()
        if step % config["renew"] == 0:
            slow.load_state_dict(q.state_dict())
        run.log(reward=reward.mean())
    run.finish()
