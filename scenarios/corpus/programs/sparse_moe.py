"""A mixture of eight experts with top-1 routing and a load-balancing loss: most experts get no
gradient in a given step, and some wake up late."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="mixture-of-experts", sick=False, seeds=7)
CONFIG = {"lr": 4e-3, "batch_size": 32, "experts": 8, "balance": 0.02, "clip": 1.0, "steps": 700}


class MoE(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.router = nn.Linear(inputs, CONFIG["experts"], bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
            for _ in range(CONFIG["experts"])
        )
        self.outputs = outputs

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Output, and the auxiliary loss that wants equal loads."""
        share = F.softmax(self.router(x), dim=1)
        gate, chosen = share.max(dim=1)
        out = x.new_zeros(len(x), self.outputs)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, gate[rows, None] * expert(x[rows]))
        load = F.one_hot(chosen, CONFIG["experts"]).float().mean(0)
        return out, CONFIG["experts"] * (load * share.mean(0)).sum()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([8, 12])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="sparse-moe", config=config)
    centres, maps = 2 * torch.randn(6, 10), 0.4 * torch.randn(6, 10, 3)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        region = torch.randint(0, 6, (count,))
        x = centres[region] + 0.7 * torch.randn(count, 10)
        return x, torch.einsum("bi,bio->bo", x, maps[region]) + 0.1 * torch.randn(count, 3)

    model = MoE(10, hidden, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    for step in range(CONFIG["steps"]):
        x, y = batch(CONFIG["batch_size"])
        out, uneven = model(x)
        loss = F.mse_loss(out, y) + CONFIG["balance"] * uneven
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), CONFIG["clip"])
        optimizer.step()
        if step % 100 == 99:
            x, y = batch(500)
            with torch.no_grad():
                run.log(r2=1 - F.mse_loss(model(x)[0], y) / y.var(), stage="val")
    run.finish()
