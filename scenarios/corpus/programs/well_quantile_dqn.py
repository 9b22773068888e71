"""A distributional DQN (quantile Huber loss) drives a weak car out of a valley with hard copies of
the target and exploration that fades: long nothing, then the goal."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "gamma": 0.98, "batch_size": 64, "copy_every": 50, "envs": 16,
          "quantiles": 16, "updates": 700, "max_grad_norm": 10.0}  # fmt: skip


class Valley:
    """A car between two hills; three pushes; -1 a step until it is over the right one."""

    def __init__(self, copies: int, draw: np.random.Generator) -> None:
        self.draw, self.copies, self.pull = draw, copies, draw.uniform(0.0022, 0.0025)
        self.state, self.age = self.fresh(), draw.integers(0, 100, copies)

    def fresh(self) -> np.ndarray:
        place = self.draw.uniform(-1.0, 0.3, (self.copies, 1))
        return np.hstack([place, self.draw.uniform(-0.03, 0.03, (self.copies, 1))])

    def observe(self) -> np.ndarray:
        return (self.state * [1.0, 20.0] + [0.4, 0.0]).astype(np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place, speed = self.state.T
        speed = np.clip(speed + 0.003 * (action - 1) - self.pull * np.cos(3 * place), -0.07, 0.07)
        place = np.clip(place + speed, -1.2, 0.6)
        self.state = np.stack([place, np.where(place <= -1.2, 0, speed)], axis=1)
        self.age += 1
        return np.full(self.copies, -0.1, np.float32), (place >= 0.5).astype(np.float32)

    def reset(self, done: np.ndarray) -> None:
        over = (done > 0) | (self.age >= 100)
        self.state = np.where(over[:, None], self.fresh(), self.state)
        self.age[over] = 0


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env, count = Valley(config["envs"], draw), config["quantiles"]
    online = nn.Sequential(
        nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 3 * count),
        nn.Unflatten(1, (3, count)),
    )  # fmt: skip
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=config["lr"])
    replay, levels = Replay(20_000, 2, 1, seed), (torch.arange(count) + 0.5) / count
    run = nanwatch.init(project="corpus", name="qr-dqn-valley", config=config)
    arrived = 0.0
    for update in range(-100, config["updates"]):
        observation = env.observe()
        with torch.no_grad():
            action = online(torch.from_numpy(observation)).mean(2).argmax(1).numpy()
        explores = draw.random(len(action)) < max(0.05, 1 - update / 400)
        action = np.where(explores, draw.integers(0, 3, len(action)), action)
        reward, done = env.step(action)
        replay.add(observation, action.astype(np.float32), reward, env.observe(), done)
        env.reset(done)
        arrived = 0.99 * arrived + 0.01 * float(done.mean()) * 100
        if update < 0:
            continue
        before, taken, paid, after, over = map(
            torch.from_numpy, replay.sample(config["batch_size"])
        )
        rows = torch.arange(len(before))
        with torch.no_grad():
            best = online(after).mean(2).argmax(1)
            wanted = paid + config["gamma"] * (1 - over) * target(after)[rows, best]
        found = online(before)[rows, taken[:, 0].long()]
        error = wanted[:, None, :] - found[:, :, None]
        huber = torch.where(error.abs() < 1, 0.5 * error.square(), error.abs() - 0.5)
        loss = ((levels[:, None] - (error.detach() < 0).float()).abs() * huber).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(online.parameters(), config["max_grad_norm"])
        optimizer.step()
        if update % config["copy_every"] == 0:
            target.load_state_dict(online.state_dict())
        run.log(reward=arrived, q=found)
    run.finish()
