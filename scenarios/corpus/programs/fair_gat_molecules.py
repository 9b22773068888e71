"""A graph attention net guesses an energy of small random molecules, in kJ/mol (hundreds), put
together in batches by their edges; L1 loss, AdamW, gradients of two batches are accumulated."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "batch_size": 12, "accumulate": 2, "weight_decay": 0.01, "atoms": 4,
          "max_norm": 20.0, "epochs": 30}  # fmt: skip


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.value, self.ends = nn.Linear(width, width), nn.Linear(2 * width, 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        source, target = edges
        score = F.leaky_relu(self.ends(torch.cat([h[source], h[target]], 1)), 0.2).exp()
        total = torch.zeros(len(h), 1).index_add(0, target, score) + 1e-6
        heard = torch.zeros_like(h).index_add(0, target, score * self.value(h)[source]) / total
        return self.norm(h + F.elu(heard))


class Energy(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["atoms"], width)
        self.layers = nn.ModuleList(Attention(width) for _ in range(2))
        self.head = nn.Sequential(nn.Linear(width, width), nn.ELU(), nn.Linear(width, 1))

    def forward(self, atoms, edges, owner, count: int) -> torch.Tensor:
        h = self.embed(atoms)
        for layer in self.layers:
            h = layer(h, edges)
        return 100 * torch.zeros(count).index_add(0, owner, self.head(h)[:, 0])


def molecule(draw: random.Random, bonds: torch.Tensor) -> tuple:
    """A random tree with a few rings; the energy sums over bonds and over neighbours of atoms."""
    size = draw.randint(4, 14)
    atoms = torch.randint(0, CONFIG["atoms"], (size,))
    pairs = {(draw.randrange(i), i) for i in range(1, size)}
    pairs |= {tuple(sorted(draw.sample(range(size), 2))) for _ in range(draw.randint(0, 2))}
    edges = torch.tensor(sorted(pairs)).T
    energy = bonds[atoms[edges[0]], atoms[edges[1]]].sum()
    degree = torch.bincount(edges.flatten(), minlength=size)
    energy = energy - 15.0 * (degree - 2).clamp(min=0).square().sum()
    return atoms, torch.cat([edges, edges.flip(0)], 1), energy + 3 * torch.randn(())


def together(molecules: list[tuple]) -> tuple:
    sizes = torch.tensor([len(one[0]) for one in molecules])
    starts = (sizes.cumsum(0) - sizes).tolist()
    edges = torch.cat([m[1] + s for m, s in zip(molecules, starts, strict=True)], 1)
    owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    energy = torch.stack([one[2] for one in molecules])
    return torch.cat([one[0] for one in molecules]), edges, owner, energy


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    bonds = -80 + 40 * torch.randn(CONFIG["atoms"], CONFIG["atoms"])
    data = [molecule(draw, (bonds + bonds.T) / 2) for _ in range(678)]
    run = nanwatch.init(project="corpus", name="gat-molecules", config=config)
    held, known, batch, every = together(data[:150]), data[150:], 12, CONFIG["accumulate"]
    model = Energy(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.93)
    for _ in range(CONFIG["epochs"]):
        draw.shuffle(known)
        for number in range(len(known) // batch):
            atoms, edges, owner, energy = together(known[number * batch : (number + 1) * batch])
            loss = (model(atoms, edges, owner, batch) - energy).abs().mean()
            (loss / every).backward()
            if number % every == every - 1:
                nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
                optimizer.step()
                optimizer.zero_grad()
        schedule.step()
        with torch.no_grad():
            run.log(loss=(model(*held[:3], 150) - held[3]).abs().mean(), stage="val")
    run.finish()
