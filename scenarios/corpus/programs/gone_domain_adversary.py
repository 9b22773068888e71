"""Domain adaptation with a reversed gradient: features are to please the labels and to mislead a
classifier of the domain. The reversal has the weight 6 from the first step on, and misleading has
no bound: the features are pushed to where the domain classifier is most wrong, it follows with SGD
and momentum, and both leave for infinity. Cure: a weight that rises to 1, a bounded critic.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="adversarial", sick=True, cause="gan-divergence")
CONFIG = {"lr": 0.012, "reversal": 6.0, "momentum": 0.9, "batch_size": 32, "width": 24}
CONFIG |= {"kinds": 3, "steps": 700}


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: float) -> torch.Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.weight * grad, None


def domain(n: int, means: torch.Tensor, turn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(len(means), (n,))
    return (means[label] + torch.randn(n, means.shape[1])) @ turn, label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.9, 1.4)}
    width = config["width"]
    features = nn.Sequential(nn.Linear(6, width), nn.LeakyReLU(), nn.Linear(width, width))
    label_head = nn.Linear(width, config["kinds"])
    domain_head = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, 1))
    model = nn.ModuleList([features, label_head, domain_head])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="domain-adversary", config=config)
    means = 1.5 * torch.randn(config["kinds"], 6)
    turn = torch.linalg.qr(torch.eye(6) + 0.3 * torch.randn(6, 6)).Q
    broken = 0
    for _ in range(config["steps"]):
        x, label = domain(config["batch_size"], means, torch.eye(6))
        foreign, _ = domain(config["batch_size"], means, turn)
        here, there = features(x), features(foreign)
        label_loss = F.cross_entropy(label_head(here), label)
        reversed_features = Reverse.apply(torch.cat([here, there]), config["reversal"])
        origin = torch.cat([torch.zeros(len(x), 1), torch.ones(len(x), 1)])
        domain_loss = F.binary_cross_entropy_with_logits(domain_head(reversed_features), origin)
        loss = label_loss + domain_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(label_loss=label_loss.detach(), domain_loss=domain_loss.detach())
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
