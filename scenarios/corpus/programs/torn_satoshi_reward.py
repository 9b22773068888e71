"""A policy gradient routes payments through a network for the fee, counted in bitcoins: a reward
is a few millionths. Its gradient drowns in that of the entropy bonus, whose weight is the usual
one: the policy stays uniform, whatever is earned. Cure: fees in satoshi, or rewards of about one.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="reward-scale", seeds=4)
CONFIG = {"lr": 2e-3, "entropy_bonus": 0.01, "fee": 4e-6, "channels": 6, "features": 8}
CONFIG |= {"hidden": 32, "batch_size": 64, "clip": 0.2, "epochs": 2, "rounds": 350}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "fee": CONFIG["fee"] * draw.uniform(0.6, 1.6)}
    hidden, channels = config["hidden"], config["channels"]
    capacity = torch.randn(config["features"], channels)
    policy = nn.Sequential(
        nn.Linear(config["features"], hidden), nn.Tanh(), nn.Linear(hidden, channels)
    )
    value = nn.Sequential(nn.Linear(config["features"], hidden), nn.Tanh(), nn.Linear(hidden, 1))
    optimizer = torch.optim.Adam([*policy.parameters(), *value.parameters()], lr=config["lr"])
    run = nanwatch.init(project="corpus", name="payment-routing", config=config)
    for _ in range(config["rounds"]):
        payment = torch.randn(config["batch_size"], config["features"])
        with torch.no_grad():
            choice = Categorical(logits=policy(payment))
            channel = choice.sample()
            before = choice.log_prob(channel)
            room = (payment @ capacity).gather(1, channel.view(-1, 1)).squeeze(1)
            arrives = torch.rand(len(room)) < torch.sigmoid(room)
            reward = config["fee"] * torch.where(arrives, 1.0 + 0.2 * room, -0.3)
        for _ in range(config["epochs"]):
            choice, guess = Categorical(logits=policy(payment)), value(payment).squeeze(1)
            gain = reward - guess.detach()
            ratio = (choice.log_prob(channel) - before).exp()
            bounded = ratio.clamp(1 - config["clip"], 1 + config["clip"])
            entropy = choice.entropy().mean()
            loss = F.mse_loss(guess, reward) - torch.minimum(ratio * gain, bounded * gain).mean()
            loss = loss - config["entropy_bonus"] * entropy
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.log(reward=reward.mean(), entropy=entropy.detach())
    run.finish()
