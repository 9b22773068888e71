"""Phones train a model of next words together; the server makes a step of Adam with the mean of
their changes. Its rate is 1, since that is plain averaging, but Adam's steps have the size
of the rate whatever the change: all weights are thrown about at each round, and what phones learn
in between is small against it. Cure: a rate of 0.01 for the server.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="federated", sick=True, cause="lr-too-high", seeds=4)
CONFIG = {"lr": 0.3, "server_lr": 1.0, "max_norm": 1.0, "phones": 4, "local_steps": 6, "rounds": 30}
CONFIG |= {"classes": 20, "width": 20, "hidden": 32, "batch_size": 32}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32, 40])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    words, count = config["classes"], config["batch_size"]
    common = torch.randn(words, words) + 0.4 * torch.randn(words, words, words)
    habits = [
        (1.5 * common + 0.4 * torch.randn(words, words, words)).softmax(2)
        for _ in range(config["phones"])
    ]
    model = nn.Sequential(
        nn.Embedding(words, config["width"]), nn.Flatten(), nn.Linear(2 * config["width"], hidden),
        nn.ReLU(), nn.LayerNorm(hidden), nn.Linear(hidden, words),
    )  # fmt: skip
    parameters = list(model.parameters())
    center = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.SGD(parameters, lr=lr)
    first = [torch.zeros_like(one) for one in center]
    second = [torch.zeros_like(one) for one in center]
    run = nanwatch.init(project="corpus", name="phones-fedadam", config=config)
    for turn in range(config["rounds"]):
        change = [torch.zeros_like(one) for one in center]
        for habit in habits:
            with torch.no_grad():
                for parameter, one in zip(parameters, center, strict=True):
                    parameter.copy_(one)
            for _ in range(config["local_steps"]):
                before = torch.randint(0, words, (count, 2))
                following = habit[before[:, 0], before[:, 1]].multinomial(1).squeeze(1)
                loss = F.cross_entropy(model(before), following)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, config["max_norm"])
                optimizer.step()
            for total, parameter, one in zip(change, parameters, center, strict=True):
                total += (parameter.detach() - one) / config["phones"]
        for one, m, v, moved in zip(center, first, second, change, strict=True):
            m.mul_(0.9).add_(moved, alpha=0.1)
            v.mul_(0.99).addcmul_(moved, moved, value=0.01)
            ahead = m / (1 - 0.9 ** (turn + 1))
            one += config["server_lr"] * ahead / ((v / (1 - 0.99 ** (turn + 1))).sqrt() + 1e-3)
        with torch.no_grad():
            for parameter, one in zip(parameters, center, strict=True):
                parameter.copy_(one)
            before = torch.randint(0, words, (300, 2))
            habit = habits[turn % config["phones"]]
            following = habit[before[:, 0], before[:, 1]].multinomial(1).squeeze(1)
            run.log(loss=F.cross_entropy(model(before), following), stage="val")
    run.finish()
