"""Values of a queue at a counter are learned by TD(0) from logs, of which only the rush hours
were kept: in nearly every transition the queue gets longer. The net is a ReLU one without bound,
the value of a longer queue is that of a shorter one times a factor, and each value is pulled to
more than itself. Cure: logs of whole days (on-policy data), a target network with a bound.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence")
CONFIG = {"lr": 1.3e-3, "momentum": 0.8, "gamma": 0.98, "growth": 1.15, "counters": 3}
CONFIG |= {"hidden": 32, "batch_size": 32, "steps": 1200}


def rush_hour(n: int, config: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(queues, reward, queues a quarter of an hour later) of the logs."""
    queue = 0.2 + torch.rand(n, config["counters"])
    served = 0.1 * torch.rand(n, config["counters"])
    later = config["growth"] * queue - served + 0.1 * torch.rand(n, config["counters"])
    return queue, -0.1 * queue.sum(1), later


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["growth"] *= draw.uniform(0.98, 1.05)
    critic = nn.Sequential(
        nn.Linear(config["counters"], config["hidden"]),
        nn.ReLU(),
        nn.Linear(config["hidden"], config["hidden"]),
        nn.ReLU(),
        nn.Linear(config["hidden"], 1),
    )
    optimizer = torch.optim.SGD(critic.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="counter-queues", config=config)
    run.watch(critic=critic)
    broken = 0
    for _ in range(config["steps"]):
        queue, reward, later = rush_hour(config["batch_size"], config)
        with torch.no_grad():
            target = reward + config["gamma"] * critic(later).squeeze(1)
        value = critic(queue).squeeze(1)
        loss = F.mse_loss(value, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(q=value.detach().mean())
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
