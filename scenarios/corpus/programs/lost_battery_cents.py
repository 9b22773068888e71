"""A battery buys and sells power by deterministic policy gradient (DDPG); the reward is the
profit in cents for a fleet, tens of thousands a step. Adam moves the critic by its rate, whatever
the error: its values crawl towards numbers that are a thousand times as large, the loss stays
where it was, and the actor follows a critic that knows nothing. Cure: rewards of about one.
"""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="reward-scale")
CONFIG = {"lr": 5e-4, "actor_lr": 5e-4, "gamma": 0.95, "tau": 0.02, "cents": 8e4}
CONFIG |= {"fleets": 8, "hidden": 32, "batch_size": 32, "steps": 450}


def mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 1),
    )  # fmt: skip


class Market:
    """Charge of each fleet's battery, the price, and the price an hour ago."""

    def __init__(self, fleets: int, cents: float, seed: int) -> None:
        self.rng, self.cents = np.random.default_rng(seed), cents
        self.state = np.zeros((fleets, 3), np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        charge, price, _ = self.state.T
        bought = np.clip(action[:, 0], -1 - charge, 1 - charge)
        fresh = 0.8 * price + 0.6 * self.rng.normal(size=len(price))
        reward = -self.cents * (bought * price + 0.1 * bought**2)
        self.state = np.stack([charge + bought, fresh, price], axis=1).astype(np.float32)
        return reward.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "cents": CONFIG["cents"] * draw.uniform(0.5, 2.0)}
    market, replay = Market(config["fleets"], config["cents"], seed), Replay(4000, 3, 1, seed)
    actor, critic = mlp(3, config["hidden"]), mlp(4, config["hidden"])
    slow_actor = copy.deepcopy(actor).requires_grad_(False)
    slow_critic = copy.deepcopy(critic).requires_grad_(False)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["actor_lr"])
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="battery-ddpg", config=config)
    run.watch(critic=critic, actor=actor)
    broken = 0
    for step in range(-20, config["steps"]):
        obs = market.state
        with torch.no_grad():
            action = torch.tanh(actor(torch.from_numpy(obs))).numpy()
        action = (action + 0.3 * market.rng.normal(size=action.shape)).astype(np.float32)
        reward = market.step(action)
        replay.add(obs, action, reward, market.state, np.zeros_like(reward))
        if step < 0:
            continue
        before, taken, paid, after, _ = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            following = torch.tanh(slow_actor(after))
            target = paid.view(-1, 1)
            target = target + config["gamma"] * slow_critic(torch.cat([after, following], 1))
        critic_loss = F.mse_loss(critic(torch.cat([before, taken], 1)), target)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        actor_loss = -critic(torch.cat([before, torch.tanh(actor(before))], 1)).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        with torch.no_grad():
            for slow, fast in ((slow_actor, actor), (slow_critic, critic)):
                for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                    old.lerp_(new, config["tau"])
        run.log(reward=reward.mean())
        broken += not math.isfinite(critic_loss.item())
        if broken > 10:
            break
    run.finish()
