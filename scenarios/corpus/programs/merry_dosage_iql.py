"""Offline RL on the logs of a clinic by implicit Q-learning: an expectile of the values, no maximum
over doses that nobody gave, two critics, slow targets, weights of the policy bounded at 20. The
loss of the critic rises while its values do, then settles. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-offline", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "gamma": 0.9, "tau": 0.02, "batch_size": 64, "hidden": 48, "steps": 500}
CONFIG |= {"rows": 4000, "expectile": 0.75, "sharpness": 3.0}


def clinic(rows: int, spread: float) -> tuple[torch.Tensor, ...]:
    glucose, meal = torch.randn(rows), torch.rand(rows)
    dose = 0.3 * glucose + 0.3 * meal + spread * torch.randn(rows)
    later = 0.9 * glucose + 0.8 * meal - 1.2 * dose - 0.3 + 0.2 * torch.randn(rows)
    reward = 1 - later.square().clamp(max=4)
    then = torch.stack([later, torch.rand(rows)], 1)
    return torch.stack([glucose, meal], 1), dose.unsqueeze(1), reward, then


def mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                         nn.Linear(hidden, 1))  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    logs, hidden = clinic(config["rows"], draw.uniform(0.2, 0.4)), config["hidden"]
    policy, value = mlp(2, hidden), mlp(2, hidden)
    critics = nn.ModuleList([mlp(3, hidden), mlp(3, hidden)])
    slow = nn.ModuleList([mlp(3, hidden), mlp(3, hidden)])
    slow.load_state_dict(critics.state_dict())
    optimizers = [
        torch.optim.Adam(net.parameters(), config["lr"]) for net in (critics, value, policy)
    ]
    run = nanwatch.init(project="corpus", name="dosage-iql", config=config)
    run.watch(critics=critics, value=value, policy=policy)
    for step in range(config["steps"]):
        rows = torch.randint(config["rows"], (config["batch_size"],))
        state, dose, reward, then = (part[rows] for part in logs)
        both = torch.cat([state, dose], 1)
        with torch.no_grad():
            old_q = torch.minimum(slow[0](both), slow[1](both)).squeeze(1)
            goal = reward + config["gamma"] * value(then).squeeze(1)
        q = critics[0](both).squeeze(1)
        critic_loss = F.mse_loss(q, goal) + F.mse_loss(critics[1](both).squeeze(1), goal)
        gap = old_q - value(state).squeeze(1)
        side = torch.where(gap > 0, config["expectile"], 1 - config["expectile"])
        value_loss = (side * gap.square()).mean()
        weight = (config["sharpness"] * gap.detach()).exp().clamp(max=20)
        policy_loss = (weight * (policy(state) - dose).square().squeeze(1)).mean()
        for optimizer, loss in zip(optimizers, (critic_loss, value_loss, policy_loss), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), critics.parameters(), strict=True):
                old.lerp_(new, config["tau"])
        run.log(q=q.detach())
        if step % 50 == 49:
            with torch.no_grad():
                state = torch.stack([torch.randn(500), torch.rand(500)], 1)
                dose = policy(state).squeeze(1)
                later = 0.9 * state[:, 0] + 0.8 * state[:, 1] - 1.2 * dose - 0.3
                run.log(glucose_error=later.square().mean(), stage="val")
    run.finish()
