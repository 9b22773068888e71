"""PPO drives a cart with a continuous force; the reward is minus the squared error in millimetres,
so returns go to minus a million. Neither rewards nor advantages are normalised (no VecNormalize),
one Adam without clipping serves both heads, which share a body. The value loss swamps everything,
the mean of the policy runs off and its log-std with it, and the run ends as so often in forums:
"Expected parameter loc to satisfy the constraint Real()". Cure: scale rewards, normalise
advantages."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="reward-scale", seeds=3)
CONFIG = {"lr": 5e-4, "gamma": 0.98, "lam": 0.95, "envs": 16, "rollout": 32, "epochs": 4}
CONFIG |= {"minibatch": 128, "clip_range": 0.2, "value_weight": 0.5, "updates": 60, "hidden": 32}


class Cart:
    """Place, speed and goal in metres; the cart rolls on unless it is pushed back."""

    def __init__(self, count: int, drag: float, seed: int) -> None:
        self.rng, self.count, self.drag = np.random.default_rng(seed), count, drag
        self.state = self._fresh(count)
        self.age = self.rng.integers(0, 60, count)

    def _fresh(self, count: int) -> np.ndarray:
        return self.rng.normal(0, [1.0, 0.3, 1.0], (count, 3))

    def observe(self) -> torch.Tensor:
        return torch.from_numpy(self.state.astype(np.float32))

    def step(self, force: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        place, speed, goal = self.state.T
        speed = self.drag * speed + 0.1 * np.clip(force, -5, 5)
        place = place + 0.1 * speed
        self.state = np.stack([place, speed, goal], 1)
        millimetres = 1000 * (place - goal)
        self.age += 1
        over = self.age >= 60
        self.state[over], self.age[over] = self._fresh(int(over.sum())), 0
        return (
            torch.from_numpy((-(millimetres**2) / 100).astype(np.float32)),
            torch.from_numpy(over.astype(np.float32)),
        )


class Agent(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.force, self.value = nn.Linear(hidden, 2), nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> tuple[Normal, torch.Tensor]:
        h = self.body(x)
        mean, log_std = self.force(h).unbind(-1)
        return Normal(mean, log_std.exp()), self.value(h).squeeze(-1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    env, agent = Cart(config["envs"], draw.uniform(0.9, 0.98), seed), Agent(config["hidden"])
    optimizer = torch.optim.Adam(agent.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="ppo-cart", config=config)
    for _ in range(config["updates"]):
        seen, acts, logs, values, rewards, ends = [], [], [], [], [], []
        with torch.no_grad():
            for _ in range(config["rollout"]):
                x = env.observe()
                policy, value = agent(x)
                act = policy.sample()
                reward, end = env.step(act.numpy())
                for kept, new in zip(
                    (seen, acts, logs, values, rewards, ends),
                    (x, act, policy.log_prob(act), value, reward, end),
                    strict=True,
                ):
                    kept.append(new)
            after = agent(env.observe())[1]
        gain, gains = torch.zeros(config["envs"]), []
        for i in reversed(range(config["rollout"])):
            going = 1 - ends[i]
            delta = rewards[i] + config["gamma"] * going * after - values[i]
            gain = delta + config["gamma"] * config["lam"] * going * gain
            after = values[i]
            gains.insert(0, gain)
        x, act, old = torch.cat(seen), torch.cat(acts), torch.cat(logs)
        advantage = torch.cat(gains)
        wanted = advantage + torch.cat(values)
        for _ in range(config["epochs"]):
            for rows in torch.randperm(len(x)).split(config["minibatch"]):
                policy, value = agent(x[rows])
                ratio = (policy.log_prob(act[rows]) - old[rows]).exp()
                clipped = ratio.clamp(1 - config["clip_range"], 1 + config["clip_range"])
                gained = torch.min(ratio * advantage[rows], clipped * advantage[rows]).mean()
                value_loss = (value - wanted[rows]).square().mean()
                loss = config["value_weight"] * value_loss - gained
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        run.log(reward=torch.cat(rewards).mean(), std=policy.stddev.mean())
    run.finish()
