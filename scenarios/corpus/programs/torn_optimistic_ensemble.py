"""Four critics learn to heat two rooms from the records of a careful thermostat (offline DDPG). The
target was to be the mean of the critics minus their spread, and it is plus: where there are no
records they disagree, values are raised, the actor goes there. Values climb far above anything that
can be earned. Cure: the sign.
"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=4)
CONFIG = {"lr": 2e-3, "actor_lr": 1e-3, "gamma": 0.97, "tau": 0.1, "critics": 4, "caution": 3.0}
CONFIG |= {"houses": 8, "hidden": 32, "batch_size": 32, "records": 800, "steps": 420}


class Ensemble(nn.Module):
    """All critics at once, by batched products: (critics, rows) values."""

    def __init__(self, critics: int, inputs: int, hidden: int) -> None:
        super().__init__()
        sizes = [(inputs, hidden), (hidden, hidden), (hidden, 1)]
        self.weights = nn.ParameterList(torch.randn(critics, i, o) / i**0.5 for i, o in sizes)
        self.biases = nn.ParameterList(torch.zeros(critics, 1, o) for _, o in sizes)

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        x = torch.cat([obs, action], dim=1).expand(len(self.weights[0]), -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            x = torch.relu(x) if layer < 2 else x
        return x.squeeze(2)


class House:
    """Deviations of two rooms from what is wanted, and the weather."""

    def __init__(self, houses: int, seed: int, leak: float) -> None:
        self.rng, self.leak = np.random.default_rng(seed), leak
        self.state = self.rng.normal(size=(houses, 3)).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        rooms, weather = self.state[:, :2], self.state[:, 2:]
        mixed = rooms + 0.1 * (rooms[:, ::-1] - rooms) + self.leak * (weather - rooms)
        rooms = np.clip(mixed + 0.4 * action, -3, 3)
        weather = 0.95 * weather + 0.3 * self.rng.normal(size=weather.shape)
        self.state = np.concatenate([rooms, weather], axis=1).astype(np.float32)
        return -((rooms**2).mean(1) + 0.05 * (action**2).mean(1)).astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    house = House(config["houses"], seed, draw.uniform(0.1, 0.2))
    replay = Replay(5000, 3, 2, seed)
    hidden = config["hidden"]
    actor = nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 2), nn.Tanh())
    critic = Ensemble(config["critics"], 5, hidden)
    slow = copy.deepcopy(critic).requires_grad_(False)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config["lr"])
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["actor_lr"])
    run = nanwatch.init(project="corpus", name="heating-ensemble", config=config)
    run.watch(critic=critic, actor=actor)
    while replay.count < config["records"]:
        obs = house.state
        action = np.clip(-0.3 * obs[:, :2] + 0.05 * house.rng.normal(size=(len(obs), 2)), -1, 1)
        reward = house.step(action)
        replay.add(obs, action, reward, house.state, np.zeros_like(reward))
    for step in range(config["steps"]):
        before, taken, paid, after, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            values = slow(after, actor(after))
            value = values.mean(0) + config["caution"] * values.std(0)
            target = paid.flatten() + config["gamma"] * value
        critic_loss = (critic(before, taken) - target).square().mean()
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        actor_loss = -critic(before, actor(before)).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), critic.parameters(), strict=True):
                old.lerp_(new, config["tau"])
        if step % 10 == 9:
            with torch.no_grad():
                action = actor(torch.from_numpy(house.state)).numpy()
            run.log(reward=house.step(action).mean())
    run.finish()
