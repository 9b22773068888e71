"""Two towers for shoppers and goods in float16 autocast: one GradScaler for two optimizers, each
unscaled and clipped for itself; the scale doubles every 80 good steps and then a step is lost."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="mixed-precision", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "goods_lr": 0.1, "batch_size": 48, "temperature": 0.1, "max_norm": 1.0,
          "scale": 2.0**13, "growth_interval": 80, "goods": 300, "steps": 700}  # fmt: skip


class Goods(nn.Module):
    """An embedding of each article and what its label says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["goods"], width)
        nn.init.normal_(self.embed.weight, std=0.05)
        self.label = nn.Linear(8, width)

    def forward(self, which: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.embed(which) + self.label(label[which]), dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    factor, width = draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * factor, "width": width}
    run = nanwatch.init(project="corpus", name="towers-fp16", config=config)
    taste, label = torch.randn(12, 8), torch.randn(CONFIG["goods"], 8)
    hidden = 0.7 * torch.randn(CONFIG["goods"], 12)

    def bought(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Shoppers and what they bought, one article each."""
        shopper = torch.randn(count, 12)
        liking = shopper @ taste @ label.T / 2 + shopper @ hidden.T
        return shopper, (1.5 * liking).softmax(1).multinomial(1)[:, 0]

    shoppers = nn.Sequential(nn.Linear(12, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
    goods = Goods(width)
    run.watch(shoppers=shoppers, goods=goods)
    dense = torch.optim.AdamW(shoppers.parameters(), lr=CONFIG["lr"] * factor)
    table = torch.optim.Adagrad(goods.parameters(), lr=CONFIG["goods_lr"] * factor)
    scaler = torch.amp.GradScaler("cpu", CONFIG["scale"], growth_interval=CONFIG["growth_interval"])
    held = bought(500)
    for step in range(CONFIG["steps"]):
        shopper, which = bought(CONFIG["batch_size"])
        with torch.autocast("cpu", dtype=torch.float16):
            match = F.normalize(shoppers(shopper), dim=1) @ goods(which, label).T
        logits = match.float() / CONFIG["temperature"]
        same = (which[:, None] == which[None]) & ~torch.eye(len(which), dtype=torch.bool)
        loss = F.cross_entropy(logits.masked_fill(same, -1e4), torch.arange(len(which)))
        dense.zero_grad()
        table.zero_grad()
        scaler.scale(loss).backward()
        for optimizer, tower in ((dense, shoppers), (table, goods)):
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(tower.parameters(), CONFIG["max_norm"])
            scaler.step(optimizer)
        scaler.update()
        if step % 100 == 99:
            with torch.no_grad():
                every = torch.arange(CONFIG["goods"])
                best = (F.normalize(shoppers(held[0]), dim=1) @ goods(every, label).T).topk(20, 1)
                hits = (best.indices == held[1][:, None]).any(1)
                run.log(recall=hits.float().mean(), stage="val")
    run.finish()
