"""Soft actor-critic holds a drone over its pad. Actions are squashed by tanh, log-probabilities are
those before it (the Jacobian is missing), and log-std may rise to 10: a wider normal is always paid
for, values are bonuses for width, and the drone's rotors flip from one end to the other.
Cure: subtract log(1 - tanh²), bound log-std at 1.
"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"lr": 1.5e-3, "gamma": 0.95, "tau": 0.02, "alpha": 0.3, "batch_size": 48}
CONFIG |= {"drones": 8, "hidden": 40, "steps": 330}


class Hover:
    """Height, drift and their speeds; two rotors, wind."""

    def __init__(self, drones: int, seed: int, wind: float) -> None:
        self.rng, self.wind = np.random.default_rng(seed), wind
        self.state = self.rng.normal(0, 0.5, (drones, 4)).astype(np.float32)

    def step(self, rotors: np.ndarray) -> np.ndarray:
        place, speed = self.state[:, :2], self.state[:, 2:]
        lift, turn = rotors.mean(1), (rotors[:, 0] - rotors[:, 1]) / 2
        gust = self.wind * self.rng.normal(size=speed.shape)
        speed = 0.9 * speed + 0.2 * np.stack([lift, turn], axis=1) + gust
        place = np.clip(place + 0.3 * speed, -2, 2)
        self.state = np.concatenate([place, speed], 1).astype(np.float32)
        return (0.3 - np.abs(place).sum(1)).astype(np.float32)


def mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def act(policy: nn.Module, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_std = policy(obs).chunk(2, dim=1)
    choice = Normal(mean, log_std.clamp(-20, 10).exp())
    raw = choice.rsample()
    return torch.tanh(raw), choice.log_prob(raw).sum(1, keepdim=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, wind = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.02, 0.05)
    config = CONFIG | {"seed": seed, "lr": lr, "wind": wind}
    env, replay = Hover(config["drones"], seed, wind), Replay(6000, 4, 2, seed)
    policy, hidden = mlp(4, 4, config["hidden"]), config["hidden"]
    critics = nn.ModuleList([mlp(6, 1, hidden), mlp(6, 1, hidden)])
    slow = copy.deepcopy(critics).requires_grad_(False)
    policy_optimizer = torch.optim.Adam(policy.parameters(), lr=lr)
    critic_optimizer = torch.optim.Adam(critics.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="hover-sac", config=config)
    run.watch(critics=critics, policy=policy)
    for step in range(-20, config["steps"]):
        obs = env.state
        with torch.no_grad():
            action = act(policy, torch.from_numpy(obs))[0].numpy()
        reward = env.step(action)
        replay.add(obs, action, reward, env.state, np.zeros_like(reward))
        if step < 0:
            continue
        before, taken, paid, after, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            following, logp = act(policy, after)
            pair = torch.cat([after, following], 1)
            value = torch.minimum(slow[0](pair), slow[1](pair)) - config["alpha"] * logp
            target = paid.view(-1, 1) + config["gamma"] * value
        pair = torch.cat([before, taken], 1)
        critic_loss = sum(F.mse_loss(critic(pair), target) for critic in critics)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        wanted, logp = act(policy, before)
        pair = torch.cat([before, wanted], 1)
        found = torch.minimum(critics[0](pair), critics[1](pair))
        policy_loss = (config["alpha"] * logp - found).mean()
        policy_optimizer.zero_grad()
        policy_loss.backward()
        policy_optimizer.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), critics.parameters(), strict=True):
                old.lerp_(new, config["tau"])
        run.log(reward=reward.mean(), q=found.detach(), entropy=-logp.mean().item())
    run.finish()
