"""Tiles of satellite pictures and their captions find each other by a contrastive loss (as in
CLIP). The learned scale of the likenesses has a rate of its own, a hundred times that of the
towers, and no upper bound: on a few hundred pairs it climbs, and unseen pairs are wrong with ever
more certainty. Cure: the rate of the towers, and a clamp at 100.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=True, cause="logit-growth", seeds=4)
CONFIG = {"lr": 1e-3, "scale_lr": 0.1, "batch_size": 32, "steps": 700, "pairs": 192}
CONFIG |= {"words": 60, "themes": 8, "width": 48, "noise": 0.8}


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = CONFIG["width"]
        self.picture = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2), nn.GELU(), nn.Flatten(), nn.Linear(108, width),
            nn.GELU(), nn.Linear(width, 24),
        )  # fmt: skip
        self.words = nn.EmbeddingBag(CONFIG["words"], width)
        self.caption = nn.Linear(width, 24)
        self.scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, picture: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        one = F.normalize(self.picture(picture), dim=1)
        other = F.normalize(self.caption(self.words(text)), dim=1)
        return self.scale.exp() * one @ other.T


def paired(logits: torch.Tensor) -> torch.Tensor:
    same = torch.arange(len(logits))
    return (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), CONFIG["noise"] * draw.uniform(0.8, 1.2)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    count = CONFIG["pairs"] + 64
    scene = torch.randn(count, CONFIG["themes"])
    painted = scene @ torch.randn(CONFIG["themes"], 3 * 8 * 8) / 3
    pictures = (painted + noise * torch.randn_like(painted)).view(-1, 3, 8, 8)
    spoken = (scene @ torch.randn(CONFIG["themes"], CONFIG["words"])).softmax(1)
    captions = torch.multinomial(spoken, 8, replacement=True)
    net = Towers()
    towers = [weight for name, weight in net.named_parameters() if name != "scale"]
    groups = [{"params": towers}, {"params": [net.scale], "lr": CONFIG["scale_lr"]}]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.0)
    run = nanwatch.init(project="corpus", name="tiles-captions", config=config)
    for step in range(CONFIG["steps"]):
        rows = torch.randperm(CONFIG["pairs"])[: CONFIG["batch_size"]]
        loss = paired(net(pictures[rows], captions[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 10:
            with torch.no_grad():
                held = paired(net(pictures[CONFIG["pairs"] :], captions[CONFIG["pairs"] :]))
            run.log(loss=held, stage="val")
    run.finish()
