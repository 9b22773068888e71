"""A crop classifier: the body was pretrained on a related task, a new head (the mean of old
rows) is trained while it is frozen; then the body is thawed at a rate that is only good for heads,
with momentum, and what it knew is gone within a few steps. Cure: a rate for the body a
hundred times smaller.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="lr-too-high-late", seeds=4)
CONFIG = {"pretrain_lr": 2e-3, "pretrain_steps": 300, "lr": 0.6, "momentum": 0.9, "head_steps": 400}
CONFIG |= {"steps": 900, "batch_size": 48, "bands": 20, "kinds": 10, "noise": 1.3}


class Spectra:
    """Spectra of the fields: each kind has its own curve; the crops are pairs of kinds."""

    def __init__(self, noise: float) -> None:
        self.curves, self.noise = torch.randn(CONFIG["kinds"], CONFIG["bands"]), noise

    def batch(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.randint(0, CONFIG["kinds"], (rows,))
        gain = 1 + 0.3 * torch.randn(rows, 1)
        return gain * self.curves[kind] + self.noise * torch.randn(rows, CONFIG["bands"]), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.8, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    data = Spectra(CONFIG["noise"] * draw.uniform(0.7, 1.3))
    layers: list[nn.Module] = [nn.Linear(CONFIG["bands"], width), nn.Tanh()]
    for _ in range(3):
        layers += [nn.Linear(width, width), nn.Tanh()]
    body, old_head = nn.Sequential(*layers), nn.Linear(width, CONFIG["kinds"])
    optimizer = torch.optim.Adam(
        [*body.parameters(), *old_head.parameters()], CONFIG["pretrain_lr"]
    )
    for _ in range(CONFIG["pretrain_steps"]):  # pretraining is another script in real life
        x, kind = data.batch(64)
        optimizer.zero_grad()
        F.cross_entropy(old_head(body(x)), kind).backward()
        optimizer.step()
    net = nn.Sequential(body, nn.Linear(width, CONFIG["kinds"] // 2))
    with torch.no_grad():
        net[1].weight.copy_(old_head.weight.view(-1, 2, width).mean(1))
    body.requires_grad_(False)
    optimizer = torch.optim.SGD(net[1].parameters(), lr=lr * 0.1, momentum=CONFIG["momentum"])
    run = nanwatch.init(project="corpus", name="crops", config=config)
    for step in range(CONFIG["steps"]):
        if step == CONFIG["head_steps"]:
            body.requires_grad_(True)
            optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=CONFIG["momentum"])
        x, kind = data.batch(CONFIG["batch_size"])
        loss = F.cross_entropy(net(x), kind // 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
