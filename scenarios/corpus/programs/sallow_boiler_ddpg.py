"""DDPG heats a building: the reward is minus the bill in cents minus 400 for every degree squared
that somebody is cold, as the simulator gives it, a thousand and more an hour. Nothing scales it:
the critic, made for values about one, climbs after its own target for the whole run, Q doubles
every few hundred updates, and the actor sits at the end of its tanh. Cure: reward / 1000."""

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

ABOUT = About(family="rl-off-policy", sick=True, cause="reward-scale", seeds=3)
CONFIG = {"lr": 1e-3, "gamma": 0.995, "tau": 0.02, "batch_size": 64, "hidden": 48, "envs": 6}
CONFIG |= {"updates": 1200, "noise": 0.2, "buffer": 8000}


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


def mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                         nn.ReLU(), nn.Linear(hidden, 1))  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    env, replay = Building(config["envs"], seed), Replay(config["buffer"], 4, 1, seed)
    actor, critic = mlp(4, config["hidden"]), mlp(5, config["hidden"])
    slow_actor, slow_critic = copy.deepcopy(actor), copy.deepcopy(critic)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["lr"] / 3)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="boiler-ddpg", config=config)
    run.watch(actor=actor, critic=critic)
    none = np.zeros(config["envs"], np.float32)
    for update in range(-40, config["updates"]):
        seen = env.observe()
        with torch.no_grad():
            action = torch.tanh(actor(torch.from_numpy(seen))).numpy()
        action = np.clip(action + config["noise"] * rng.standard_normal(action.shape), -1, 1)
        reward = env.step(action)
        replay.add(seen, action.astype(np.float32), reward, env.observe(), none)
        if update < 0:
            continue
        state, did, paid, later, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            then = torch.tanh(slow_actor(later))
            goal = paid + config["gamma"] * slow_critic(torch.cat([later, then], 1))
        q = critic(torch.cat([state, did], 1))
        critic_loss = F.mse_loss(q, goal)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        actor_loss = -critic(torch.cat([state, torch.tanh(actor(state))], 1)).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        with torch.no_grad():
            for slow, fast in ((slow_actor, actor), (slow_critic, critic)):
                for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                    old.lerp_(new, config["tau"])
        run.log(reward=float(reward.mean()), q=q.detach())
    run.finish()
