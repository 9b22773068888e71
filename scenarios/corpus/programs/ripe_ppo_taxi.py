"""PPO drives taxis on a small grid: pick up, bring, set down. Nothing is earned but a cost of time
until the first passengers arrive by chance, then rewards jump; advantages are normalised by
minibatch, observations by running statistics, the rate falls in a line. Nothing is wrong."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 2.5e-3, "gamma": 0.97, "lam": 0.95, "envs": 24, "rollout": 24, "updates": 70}
CONFIG |= {"epochs": 4, "minibatches": 4, "clip_range": 0.2, "entropy_bonus": 0.01}
CONFIG |= {"max_norm": 0.5, "hidden": 64}
MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0], [0, 0]])


class Taxis:
    """Taxi, passenger and goal on a grid; four moves and one action to pick up and set down."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.rng, self.size, self.count = np.random.default_rng(seed), size, count
        self.place, self.guest, self.goal = self.rng.integers(0, size, (3, count, 2))
        self.aboard, self.age = np.zeros(count, bool), self.rng.integers(0, 60, count)

    def observe(self) -> np.ndarray:
        aim = np.where(self.aboard[:, None], self.goal, self.guest)
        parts = [
            self.place,
            aim - self.place,
            self.aboard[:, None],
            (aim == self.place).all(1)[:, None],
        ]
        return np.concatenate(parts, 1).astype(np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.place = np.clip(self.place + MOVES[action], 0, self.size - 1)
        stop = action == 4
        arrived = stop & self.aboard & (self.place == self.goal).all(1)
        picked = stop & ~self.aboard & (self.place == self.guest).all(1)
        reward = -0.05 - 0.1 * (stop & ~arrived & ~picked) + picked + 3.0 * arrived
        self.aboard |= picked
        self.age += 1
        over = arrived | (self.age >= 60)
        fresh = self.rng.integers(0, self.size, (3, int(over.sum()), 2))
        self.place[over], self.guest[over], self.goal[over] = fresh
        self.aboard[over], self.age[over] = False, 0
        return reward.astype(np.float32), over.astype(np.float32)


class RunningNorm:
    def __init__(self, size: int) -> None:
        self.mean, self.square, self.count = np.zeros(size), np.ones(size), 1e-4

    def __call__(self, x: np.ndarray) -> torch.Tensor:
        self.count += len(x)
        self.mean = self.mean + (x - self.mean).sum(0) / self.count
        self.square = self.square + (x**2 - self.square).sum(0) / self.count
        spread = np.sqrt(np.maximum(self.square - self.mean**2, 1e-4))
        return torch.from_numpy(np.clip((x - self.mean) / spread, -10, 10).astype(np.float32))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env, norm = Taxis(config["envs"], draw.choice([4, 5]), seed), RunningNorm(6)
    hidden = config["hidden"]
    actor = nn.Sequential(nn.Linear(6, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
                          nn.Linear(hidden, 5))  # fmt: skip
    critic = nn.Sequential(nn.Linear(6, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
                           nn.Linear(hidden, 1))  # fmt: skip
    with torch.no_grad():
        actor[4].weight.mul_(0.01)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"], eps=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, config["updates"])
    run = nanwatch.init(project="corpus", name="taxis", config=config)
    obs = norm(env.observe())
    for _ in range(config["updates"]):
        kept = []
        for _ in range(config["rollout"]):
            with torch.no_grad():
                policy = Categorical(logits=actor(obs))
                action = policy.sample()
                value = critic(obs).squeeze(1)
            reward, over = env.step(action.numpy())
            kept.append((obs, action, policy.log_prob(action), value,
                         torch.from_numpy(reward), torch.from_numpy(over)))  # fmt: skip
            obs = norm(env.observe())
        seen, acted, before, values, rewards, overs = map(torch.stack, zip(*kept, strict=True))
        with torch.no_grad():
            after, gain = critic(obs).squeeze(1), torch.zeros(config["envs"])
        gains = torch.zeros_like(values)
        for t in reversed(range(config["rollout"])):
            alive = 1 - overs[t]
            gain = (
                rewards[t]
                + config["gamma"] * alive * after
                - values[t]
                + (config["gamma"] * config["lam"] * alive * gain)
            )
            gains[t], after = gain, values[t]
        flat = [part.flatten(0, 1) for part in (seen, acted, before, gains, gains + values)]
        for _ in range(config["epochs"]):
            for rows in torch.randperm(len(flat[0])).chunk(config["minibatches"]):
                x, a, old, advantage, goal = (part[rows] for part in flat)
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                policy = Categorical(logits=actor(x))
                ratio = (policy.log_prob(a) - old).exp()
                clipped = ratio.clamp(1 - config["clip_range"], 1 + config["clip_range"])
                loss = -torch.min(ratio * advantage, clipped * advantage).mean()
                loss = loss + 0.5 * (critic(x).squeeze(1) - goal).square().mean()
                loss = loss - config["entropy_bonus"] * policy.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, config["max_norm"])
                optimizer.step()
                run.log(reward=rewards.mean())
        schedule.step()
    run.finish()
