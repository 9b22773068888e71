"""Soft actor-critic heats a building: the bill and the cold are divided by 500 and cut at -5, two
critics with slow targets, a temperature that tunes itself. The values go down for some hundred
updates until they have found their level, the first rewards are awful. Nothing is wrong."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "gamma": 0.9, "tau": 0.02, "batch_size": 64, "hidden": 48, "envs": 6}
CONFIG |= {"updates": 450, "buffer": 8000, "reward_scale": 0.002}


class Building:
    """Warmth inside, cold outside, the price of gas by the hour."""

    def __init__(self, copies: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.inside = self.rng.uniform(14, 22, copies)
        self.outside = self.rng.uniform(-5, 10, copies)
        self.hour = self.rng.integers(0, 24, copies)

    def observe(self) -> np.ndarray:
        angle = 2 * np.pi * self.hour / 24
        seen = [(self.inside - 18) / 5, self.outside / 10, np.sin(angle), np.cos(angle)]
        return np.stack(seen, 1).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        power = 6 * (np.clip(action[:, 0], -1, 1) + 1)
        price = 40 + 25 * (np.abs(self.hour - 18) < 3)
        lost = 0.12 * (self.inside - self.outside)
        self.inside = self.inside + 0.4 * power - lost + self.rng.normal(0, 0.2, len(power))
        self.outside = np.clip(self.outside + self.rng.normal(0, 0.5, len(power)), -8, 12)
        self.hour = (self.hour + 1) % 24
        cold = np.maximum(0, 20 - self.inside) ** 2 + 0.5 * np.maximum(0, self.inside - 24) ** 2
        return (-price * power - 400 * cold).astype(np.float32)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                         nn.ReLU(), nn.Linear(hidden, outputs))  # fmt: skip


def act(actor: nn.Module, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_std = actor(state).chunk(2, 1)
    std = log_std.clamp(-5, 1).exp()
    raw = mean + std * torch.randn_like(mean)
    log_pi = -0.5 * ((raw - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
    log_pi = log_pi - 2 * (math.log(2) - raw - F.softplus(-2 * raw))
    return raw.tanh(), log_pi.squeeze(1)


def train(seed: int) -> None:  # noqa: PLR0915 - one long loop, as CleanRL writes them
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    env, replay = Building(config["envs"], seed), Replay(config["buffer"], 4, 1, seed)
    hidden = config["hidden"]
    actor = mlp(4, hidden, 2)
    critics = nn.ModuleList([mlp(5, hidden, 1), mlp(5, hidden, 1)])
    slow = nn.ModuleList([mlp(5, hidden, 1), mlp(5, hidden, 1)])
    slow.load_state_dict(critics.state_dict())
    log_alpha = torch.tensor(-1.5, requires_grad=True)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["lr"])
    critic_optimizer = torch.optim.Adam(critics.parameters(), lr=config["lr"])
    alpha_optimizer = torch.optim.Adam([log_alpha], lr=config["lr"])
    run = nanwatch.init(project="corpus", name="boiler-sac", config=config)
    run.watch(actor=actor, critics=critics)
    none = np.zeros(config["envs"], np.float32)
    for update in range(-40, config["updates"]):
        seen = env.observe()
        with torch.no_grad():
            action = act(actor, torch.from_numpy(seen))[0].numpy()
        reward = np.maximum(config["reward_scale"] * env.step(action), -5)
        replay.add(seen, action, reward, env.observe(), none)
        if update < 0:
            continue
        state, did, paid, later, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        alpha = log_alpha.exp().detach()
        with torch.no_grad():
            then, log_pi = act(actor, later)
            both = torch.cat([later, then], 1)
            value = torch.minimum(slow[0](both), slow[1](both)).squeeze(1) - alpha * log_pi
            goal = paid.squeeze(1) + config["gamma"] * value
        both = torch.cat([state, did], 1)
        q = critics[0](both).squeeze(1)
        critic_loss = F.mse_loss(q, goal) + F.mse_loss(critics[1](both).squeeze(1), goal)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        now, log_pi = act(actor, state)
        both = torch.cat([state, now], 1)
        best = torch.minimum(critics[0](both), critics[1](both)).squeeze(1)
        actor_loss = (alpha * log_pi - best).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        alpha_loss = -(log_alpha * (log_pi.detach() - 1).mean())
        alpha_optimizer.zero_grad()
        alpha_loss.backward()
        alpha_optimizer.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), critics.parameters(), strict=True):
                old.lerp_(new, config["tau"])
        run.log(reward=float(reward.mean()), q=q.detach(), entropy=-log_pi.detach().mean())
    run.finish()
