"""Intents of a help desk by a linear classifier on frozen sentence vectors, with a "bold driver":
the rate rises by two per cent whenever the loss is not above its mean of late. The classes
separate, the loss falls the larger the logits are, and the rate and the logits lift each other;
the few tickets with a wrong intent cost thousands each. Cure: weight decay, an upper bound of the
rate.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=True, cause="logit-growth")
CONFIG = {"lr": 0.02, "up": 1.02, "down": 0.98, "classes": 5, "width": 24, "batch_size": 24}
CONFIG |= {"wrong_intents": 0.002, "steps": 1000}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["up"] += draw.uniform(-0.004, 0.006)
    intent_mean = 0.9 * torch.randn(config["classes"], config["width"])
    model = nn.Linear(config["width"], config["classes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="help-desk", config=config)
    mean, broken = math.inf, 0
    for _ in range(config["steps"]):
        intent = torch.randint(config["classes"], (config["batch_size"],))
        x = intent_mean[intent] + 0.5 * torch.randn(config["batch_size"], config["width"])
        wrong = torch.rand(len(intent)) < config["wrong_intents"]
        intent[wrong] = torch.randint(config["classes"], (int(wrong.sum()),))
        loss = F.cross_entropy(model(x), intent)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= config["up"] if loss.item() <= mean else config["down"]
        mean = loss.item() if math.isinf(mean) else 0.95 * mean + 0.05 * loss.item()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
