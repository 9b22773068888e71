"""Gradual unfreezing of a text classifier: the head first, then one layer more every hundred and
fifty steps, each with a rate 2.6 times smaller than the one above, as in ULMFiT."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=4)
CONFIG = {"lr": 3e-3, "decay": 2.6, "batch_size": 32, "stage_steps": 150, "classes": 4}
CONFIG |= {"words": 80, "length": 16, "width": 32, "pretrain_steps": 300}


class Topics:
    """Words belong to themes; a text has two themes, the class is the stronger one."""

    def __init__(self, themes: int, flatness: float) -> None:
        self.chances = (torch.randn(themes, CONFIG["words"]) / flatness).softmax(1)

    def batch(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        theme = torch.randint(0, len(self.chances), (rows,))
        other = torch.randint(0, len(self.chances), (rows,))
        mix = 0.7 * self.chances[theme] + 0.3 * self.chances[other]
        return torch.multinomial(mix, CONFIG["length"], replacement=True), theme


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    config = CONFIG | {"seed": seed, "lr": lr}
    old, new = Topics(8, 0.9), Topics(CONFIG["classes"], draw.uniform(1.0, 1.3))
    width = CONFIG["width"]
    layers = nn.ModuleList(
        [
            nn.EmbeddingBag(CONFIG["words"], width),
            nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU()),
            nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU()),
            nn.Linear(width, 8),
        ]
    )
    optimizer = torch.optim.Adam(layers.parameters(), lr=4e-3)
    for _ in range(CONFIG["pretrain_steps"]):  # pretraining is another script in real life
        text, theme = old.batch(64)
        optimizer.zero_grad()
        F.cross_entropy(nn.Sequential(*layers)(text), theme).backward()
        optimizer.step()
    layers[3] = nn.Linear(width, CONFIG["classes"])
    net = nn.Sequential(*layers)
    net.requires_grad_(False)
    optimizer = torch.optim.AdamW(net[3].parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="gradual-thaw", config=config)
    for stage in range(len(layers)):
        layer = net[len(layers) - 1 - stage].requires_grad_(True)
        if stage:
            rate = lr / CONFIG["decay"] ** stage
            optimizer.add_param_group({"params": list(layer.parameters()), "lr": rate})
        for _ in range(CONFIG["stage_steps"]):
            text, theme = new.batch(CONFIG["batch_size"])
            loss = F.cross_entropy(net(text), theme)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            text, theme = new.batch(256)
            run.log(loss=F.cross_entropy(net(text), theme), stage="val")
    run.finish()
