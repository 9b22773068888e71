"""MAML adapts a small net to a new sensor by four inner steps, and is trained through them. The
inner rate was typed ten times too large: adapting overshoots, the gradient of the outer loss is
thousands of times the limit it is clipped to, and its direction means little. Cure: the inner rate.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="meta-learning", sick=True, cause="explosion-hidden-by-clipping", seeds=4)
CONFIG = {"lr": 1e-3, "inner_lr": 0.6, "inner_steps": 4, "max_norm": 1.0, "sensors": 1}
CONFIG |= {"support": 10, "query": 10, "hidden": 32, "steps": 420}


def sensor() -> tuple[torch.Tensor, torch.Tensor]:
    """Ten readings to adapt to and ten to be judged by: an S-shaped answer and a drift."""
    x = torch.rand(CONFIG["support"] + CONFIG["query"], 1) * 4 - 2
    gain, middle, slope = torch.rand(3) * 2 - 1
    return x, (2 + gain) * torch.tanh(2 * (x - middle)) + slope * x


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "inner_lr": CONFIG["inner_lr"] * draw.uniform(0.8, 1.3)}
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
        nn.Linear(hidden, 1),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="sensor-maml", config=config)
    for _ in range(config["steps"]):
        loss = torch.zeros(())
        for _ in range(config["sensors"]):
            x, y = sensor()
            weights = dict(model.named_parameters())
            for _ in range(config["inner_steps"]):
                answer = functional_call(model, weights, x[: config["support"]])
                inner = F.mse_loss(answer, y[: config["support"]])
                grads = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
                weights = {
                    name: weight - config["inner_lr"] * grad
                    for (name, weight), grad in zip(weights.items(), grads, strict=True)
                }
            answer = functional_call(model, weights, x[config["support"] :])
            loss = loss + F.mse_loss(answer, y[config["support"] :]) / config["sensors"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
