"""How long will a parcel take? Sparse mixture of experts on tabular data (each region has its own
rules): noisy top-2 gate, a load-balancing loss, GELU experts, AdamW with cosine. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="mixture-of-experts", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 128, "steps": 900, "experts": 6, "top_k": 2, "hidden": 24}
CONFIG |= {"balance": 0.02, "features": 10}


class MoE(nn.Module):
    def __init__(self, features: int, hidden: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.enter = nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.LayerNorm(hidden))
        self.gate, self.noise = nn.Linear(hidden, experts), nn.Linear(hidden, experts)
        self.experts = nn.ModuleList([
            nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
            for _ in range(experts)
        ])  # fmt: skip
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.enter(x)
        scores = self.gate(h)
        if self.training:
            scores = scores + torch.randn_like(scores) * F.softplus(self.noise(h))
        top, which = scores.topk(self.top_k, dim=1)
        weight = top.softmax(1)
        out = torch.zeros_like(h)
        for number, expert in enumerate(self.experts):
            rows, place = (which == number).nonzero(as_tuple=True)
            if len(rows):
                out = out.index_add(0, rows, weight[rows, place].unsqueeze(1) * expert(h[rows]))
        chosen = F.one_hot(which[:, 0], len(self.experts)).float().mean(0)
        balance = len(self.experts) * (chosen * scores.softmax(1).mean(0)).sum()
        return self.head(h + out).squeeze(1), balance


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    features, noise = config["features"], draw.uniform(0.1, 0.3)
    centres = 1.5 * torch.randn(4, features)
    rules, offsets = torch.randn(4, features) / features**0.5, torch.randn(4)

    def parcels(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        region = torch.randint(4, (count,))
        x = centres[region] + torch.randn(count, features)
        days = (x * rules[region]).sum(1).abs() + offsets[region]
        return x, days + noise * torch.distributions.Exponential(1.0).sample((count,))

    held = parcels(1000)
    model = MoE(features, config["hidden"], config["experts"], config["top_k"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"])
    run = nanwatch.init(project="corpus", name="parcels-moe", config=config)
    for step in range(config["steps"]):
        x, y = parcels(config["batch_size"])
        guess, balance = model(x)
        loss = F.mse_loss(guess, y) + config["balance"] * balance
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 150 == 149:
            model.eval()
            with torch.no_grad():
                run.log(loss=F.mse_loss(model(held[0])[0], held[1]), stage="val")
            model.train()
    run.finish()
