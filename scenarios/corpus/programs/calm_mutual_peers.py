"""Deep mutual learning: two nets of different shape learn birds from noisy labels and from each
other's answers at once, two optimizers and two losses of cross-entropy plus KL in every step."""

from __future__ import annotations

import itertools
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=False, seeds=6)
CONFIG = {"lr": 0.05, "adam_lr": 2e-3, "batch_size": 32, "wrong": 0.15, "kl_weight": 1.0,
          "classes": 7, "steps": 650}  # fmt: skip


class Peer(nn.Module):
    def __init__(self, sizes: list[int], activation: type[nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for enter, leave in itertools.pairwise(sizes):
            layers += [nn.Linear(enter, leave), activation()]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], CONFIG["classes"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def step(optimizer: torch.optim.Optimizer, mine: torch.Tensor, other: torch.Tensor, label) -> None:
    nats = F.cross_entropy(mine, label)
    kl = F.kl_div(mine.log_softmax(1), other.detach().softmax(1), reduction="batchmean")
    loss = nats + CONFIG["kl_weight"] * kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    factor, width = draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * factor, "width": width}
    run = nanwatch.init(project="corpus", name="birds-mutual", config=config)
    species = torch.randn(CONFIG["classes"], 3, 24)

    def birds(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(0, CONFIG["classes"], (count,))
        pose = torch.randint(0, 3, (count,))
        return species[label, pose] + 0.9 * torch.randn(count, 24), label

    x, truth = birds(2000)
    wrong = torch.rand(len(truth)) < CONFIG["wrong"]
    label = torch.where(wrong, torch.randint(0, CONFIG["classes"], truth.shape), truth)
    wide, deep = Peer([24, width], nn.ReLU), Peer([24, 32, 32, 32], nn.ELU)
    run.watch(wide=wide, deep=deep)
    heavy = torch.optim.SGD(wide.parameters(), CONFIG["lr"] * factor, 0.9, weight_decay=5e-4)
    light = torch.optim.AdamW(deep.parameters(), CONFIG["adam_lr"] * factor, weight_decay=0.01)
    tests = birds(800)
    for number in range(CONFIG["steps"]):
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        one, two = wide(x[rows]), deep(x[rows])
        step(heavy, one, two, label[rows])
        step(light, two, one, label[rows])
        if number % 100 == 99:
            with torch.no_grad():
                right = [
                    (net(tests[0]).argmax(1) == tests[1]).float().mean() for net in (wide, deep)
                ]
            run.log(wide=right[0], deep=right[1], stage="val")
    run.finish()
