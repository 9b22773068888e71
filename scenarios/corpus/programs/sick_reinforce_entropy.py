"""A policy gradient chooses among ten arms in each of sixteen contexts. All rewards are positive,
there is no baseline and no entropy bonus and the learning rate is high: whatever was tried first
is reinforced, the entropy is zero after a hundred updates and most contexts are stuck with a poor
arm. Never NaN. Cure: a baseline, lr x0.1, entropy bonus (`twin_reinforce`).
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse")
CONFIG = {"lr": 0.03, "entropy_bonus": 0.0, "baseline": False, "contexts": 16, "arms": 10}
CONFIG |= {"batch_size": 64, "hidden": 32, "steps": 800}


def train(seed: int, name: str = "sick_reinforce_entropy", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    contexts, arms = config["contexts"], config["arms"]
    mean_reward = 1.0 + torch.rand(contexts, arms)
    one_hot = torch.eye(contexts)
    policy = nn.Sequential(
        nn.Linear(contexts, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], arms)
    )
    optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    average = mean_reward.mean()
    for _ in range(config["steps"]):
        context = torch.randint(contexts, (config["batch_size"],))
        pi = Categorical(logits=policy(one_hot[context]))
        arm = pi.sample()
        reward = mean_reward[context, arm] + 0.3 * torch.randn(config["batch_size"])
        advantage = reward - average if config["baseline"] else reward
        average = 0.95 * average + 0.05 * reward.mean()
        entropy = pi.entropy().mean()
        loss = -(pi.log_prob(arm) * advantage).mean() - config["entropy_bonus"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=reward, entropy=entropy.detach())
    run.finish()
