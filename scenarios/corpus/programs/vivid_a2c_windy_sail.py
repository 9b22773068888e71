"""A2C sails a boat across a windy grid: sixteen copies, rollouts of eight steps, generalised
advantages, RMSprop with eps 1e-5, a rate that falls in a line, gradients clipped at 0.5, an
entropy bonus. Rewards are -0.02 a step until the harbour is found, which is +1. The policy grows
surer slowly, the value's loss rises once there is something to be foretold. Nothing is wrong."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "gamma": 0.97, "lam": 0.95, "envs": 16, "rollout": 8, "updates": 500}
CONFIG |= {"entropy_bonus": 0.01, "max_norm": 0.5, "hidden": 64, "size": 6}
MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Lake:
    """From anywhere to the harbour; in the middle the wind blows north now and then."""

    def __init__(self, copies: int, size: int, wind: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.copies, self.size, self.wind = copies, size, wind
        self.harbour = np.array([size - 1, self.rng.integers(0, size)])
        self.place = self.rng.integers(0, size, (copies, 2))
        self.age = self.rng.integers(0, 40, copies)

    def observe(self) -> torch.Tensor:
        eye = np.eye(self.size, dtype=np.float32)
        return torch.from_numpy(np.concatenate([eye[self.place[:, 0]], eye[self.place[:, 1]]], 1))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle = (self.place[:, 0] > 1) & (self.place[:, 0] < self.size - 2)
        blown = middle & (self.rng.random(self.copies) < self.wind)
        self.place = self.place + MOVES[action] + np.stack([0 * blown, blown], 1)
        self.place = np.clip(self.place, 0, self.size - 1)
        there = (self.place == self.harbour).all(1)
        self.age += 1
        over = there | (self.age >= 40)
        self.place[over] = self.rng.integers(0, self.size, (int(over.sum()), 2))
        self.age[over] = 0
        return (there - 0.02).astype(np.float32), over.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    size, hidden = config["size"], config["hidden"]
    env = Lake(config["envs"], size, draw.uniform(0.2, 0.5), seed)
    body = nn.Sequential(nn.Linear(2 * size, hidden), nn.Tanh())
    actor, critic = nn.Linear(hidden, 4), nn.Linear(hidden, 1)
    parameters = [*body.parameters(), *actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.RMSprop(parameters, config["lr"], alpha=0.99, eps=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, config["updates"])
    run = nanwatch.init(project="corpus", name="sailing-a2c", config=config)
    for _ in range(config["updates"]):
        log_probs, values, entropies, rewards, overs = [], [], [], [], []
        for _ in range(config["rollout"]):
            seen = body(env.observe())
            policy = Categorical(logits=actor(seen))
            action = policy.sample()
            reward, over = env.step(action.numpy())
            log_probs.append(policy.log_prob(action))
            values.append(critic(seen).squeeze(1))
            entropies.append(policy.entropy())
            rewards.append(torch.from_numpy(reward))
            overs.append(torch.from_numpy(over))
        with torch.no_grad():
            after, gain = critic(body(env.observe())).squeeze(1), torch.zeros(config["envs"])
            gains = []
            for t in reversed(range(config["rollout"])):
                alive = config["gamma"] * (1 - overs[t])
                gain = rewards[t] + alive * after - values[t] + alive * config["lam"] * gain
                after = values[t]
                gains.append(gain)
            advantage = torch.stack(gains[::-1])
        value, entropy = torch.stack(values), torch.stack(entropies).mean()
        value_loss = (advantage + value.detach() - value).square().mean()
        loss = -(torch.stack(log_probs) * advantage).mean() + 0.5 * value_loss
        loss = loss - config["entropy_bonus"] * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config["max_norm"])
        optimizer.step()
        schedule.step()
        run.log(reward=torch.stack(rewards).mean(), entropy=entropy.detach())
    run.finish()
