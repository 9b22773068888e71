"""Low-rank adapters on a pretrained net for the tone of a phrase. Both factors of each adapter were
set to zero, "so that training starts from the pretrained net": each factor's gradient is a product
with the other, and so nothing ever moves. Cure: only one of the two at zero.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="frozen-weights", seeds=4)
CONFIG = {"lr": 3e-3, "weight_decay": 0.0, "rank": 4, "batch_size": 32, "steps": 600, "warmup": 40}
CONFIG |= {"words": 60, "length": 9, "width": 32, "pretrain_steps": 250}


class Adapted(nn.Module):
    """A linear layer that is fixed, and a low-rank change to it."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.zeros(layer.in_features, rank))
        self.up = nn.Parameter(torch.zeros(rank, layer.out_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + x @ self.down @ self.up


def phrases(rows: int, tone: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    text = torch.randint(0, CONFIG["words"], (rows, CONFIG["length"]))
    return text, (tone[text].sum(1) + 0.3 * torch.randn(rows) > 0).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, rank = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([2, 4, 8])
    config = CONFIG | {"seed": seed, "lr": lr, "rank": rank}
    old = torch.randn(CONFIG["words"])
    new = 0.5 * old + torch.randn(CONFIG["words"])
    embed, width = nn.EmbeddingBag(CONFIG["words"], CONFIG["width"]), CONFIG["width"]
    first, second, out = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)
    base = nn.Sequential(embed, first, nn.GELU(), second, nn.GELU(), out)
    optimizer = torch.optim.Adam(base.parameters(), lr=5e-3)
    for _ in range(CONFIG["pretrain_steps"]):  # pretraining is another script in real life
        text, tone = phrases(64, old)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(base(text).squeeze(1), tone).backward()
        optimizer.step()
    base.requires_grad_(False)
    net = nn.Sequential(
        embed, Adapted(first, rank), nn.GELU(), Adapted(second, rank), nn.GELU(),
        Adapted(out, rank),
    )  # fmt: skip
    adapters = [weights for weights in net.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(adapters, lr=lr, weight_decay=CONFIG["weight_decay"])
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=CONFIG["warmup"])
    run = nanwatch.init(project="corpus", name="tone-adapters", config=config)
    for _ in range(CONFIG["steps"]):
        text, tone = phrases(CONFIG["batch_size"], new)
        loss = F.binary_cross_entropy_with_logits(net(text).squeeze(1), tone)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(adapters, 1.0)
        optimizer.step()
        warm_up.step()
    run.finish()
