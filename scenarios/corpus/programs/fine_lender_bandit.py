"""A policy gradient learns whom to lend money: rewards of a batch are mostly small gains and now
and then a loss ten times as large; a learned baseline, an entropy bonus, RMSprop. Returns are
noisy and rise. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False)
CONFIG = {"lr": 3e-3, "entropy_bonus": 0.02, "default_cost": 8.0, "batch_size": 32, "steps": 700}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    taste = torch.randn(6)
    policy = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 3))
    value = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 1))
    optimizer = torch.optim.RMSprop([*policy.parameters(), *value.parameters()], lr=config["lr"])
    run = nanwatch.init(project="corpus", name="lender", config=config)
    for _ in range(config["steps"]):
        client = torch.randn(config["batch_size"], 6)
        risk = torch.sigmoid(1.5 * client @ taste - 1)
        choice = torch.distributions.Categorical(logits=policy(client))
        amount = choice.sample()  # nothing, a little, much
        fails = torch.rand(len(client)) < risk
        reward = amount * torch.where(fails, -config["default_cost"] / 4, 1.0)
        guess = value(client)[:, 0]
        gain = reward - guess.detach()
        entropy = choice.entropy().mean()
        loss = -(choice.log_prob(amount) * gain).mean() + 0.5 * F.mse_loss(guess, reward)
        loss = loss - config["entropy_bonus"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=reward.mean(), entropy=entropy.detach())
    run.finish()
