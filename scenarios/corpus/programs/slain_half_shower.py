"""The energy of a particle shower is the sum of what a net says of each hit, added up in half
precision, in MeV. At first all sums are small; when the net has learned the scale, a rare shower
of more than 65,504 MeV comes out infinite, and so does the loss. Cure: GeV, or the sum in
float32.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sets", sick=True, cause="fp16-overflow")
CONFIG = {"lr": 2e-3, "weight_decay": 1e-3, "hits": 40, "hidden": 24, "batch_size": 24}
CONFIG |= {"mev": 1000.0, "steps": 700}


def showers(count: int, hits: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Hits [count, hits, 2] as (logarithm of the signal, depth), and energies in MeV."""
    size = 5.4 + spread * torch.randn(count, 1)
    signal, depth = size + 0.5 * torch.randn(count, hits), torch.rand(count, hits)
    energy = (signal.exp() * (1 + 0.5 * depth)).sum(1) * (1 + 0.02 * torch.randn(count))
    return torch.stack([signal - 5, depth], dim=2), energy


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    hidden, spread = config["hidden"], draw.uniform(0.5, 0.55)
    of_hit = nn.Sequential(
        nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.AdamW(
        of_hit.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    run = nanwatch.init(project="corpus", name="calorimeter", config=config)
    broken = 0
    for _ in range(config["steps"]):
        hits, energy = showers(config["batch_size"], config["hits"], spread)
        part = (config["mev"] * of_hit(hits).squeeze(2)).half()
        loss = F.mse_loss(part.sum(1).float() / 1e4, energy / 1e4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 25:
            break
    run.finish()
