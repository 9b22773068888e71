"""A glider's controller is trained inside a learned model of the air. The model was fitted once, to
gentle random flights, and actions are not bounded: the controller goes where the model was never
right, its dreamed gain rises without end, and real flights get worse. Cure: bounded actions, and
new flights for the model.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-model-based", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"model_lr": 3e-3, "lr": 2e-3, "horizon": 5, "batch_size": 48, "hidden": 48}
CONFIG |= {"model_steps": 250, "steps": 350, "flights": 1500}


def air(state: torch.Tensor, action: torch.Tensor, lift: float) -> tuple[torch.Tensor, ...]:
    """(state, reward) after one step: height, speed, pitch; strong actions are dear."""
    action = action.clamp(-3, 3)  # where the rudders stop
    height, speed, pitch = state.unbind(1)
    turn = action[:, 0] - 0.3 * pitch
    pitch = pitch + 0.3 * turn
    speed = 0.9 * speed - 0.2 * torch.sin(pitch) + 0.3 * action[:, 1]
    gain = lift * speed + 0.2 * torch.sin(pitch) - 0.04 * action.pow(4).sum(1)
    return torch.stack([0.9 * height + 0.2 * gain, speed, pitch], 1), gain


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
        nn.Linear(hidden, outputs),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, lift = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.4, 0.7)
    config = CONFIG | {"seed": seed, "lr": lr, "lift": lift}
    state, action = 0.5 * torch.randn(config["flights"], 3), 0.5 * torch.randn(config["flights"], 2)
    after, gain = air(state, action, lift)
    x, y = torch.cat([state, action], 1), torch.cat([after - state, gain[:, None]], 1)
    model, policy = mlp(5, config["hidden"], 4), mlp(3, 32, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["model_lr"])
    run = nanwatch.init(project="corpus", name="glider-dreams", config=config)
    run.watch(model=model, policy=policy)
    run.mark("task", "model")
    for _ in range(config["model_steps"]):
        rows = torch.randint(0, len(x), (config["batch_size"],))
        model_loss = F.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        model_loss.backward()
        optimizer.step()
    run.mark("task", "policy")
    model.requires_grad_(False)
    optimizer = torch.optim.Adam(policy.parameters(), lr=lr)
    for step in range(config["steps"]):
        dream, total = 0.5 * torch.randn(config["batch_size"], 3), 0.0
        for _ in range(config["horizon"]):
            said = model(torch.cat([dream, policy(dream)], 1))
            dream, total = dream + said[:, :3], total + said[:, 3]
        policy_loss = -total.mean()
        optimizer.zero_grad()
        policy_loss.backward()
        optimizer.step()
        if step % 10 == 0:
            with torch.no_grad():
                flight, reward = 0.5 * torch.randn(64, 3), 0.0
                for _ in range(config["horizon"]):
                    flight, gain = air(flight, policy(flight), lift)
                    reward += gain.mean()
            run.log(reward=reward)
    run.finish()
