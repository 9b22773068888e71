"""A small transformer for the mood of melodies, then BitFit: for melodies in another key only the
biases, norms and a new head are trained, at a higher rate, so most of the weights never move."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "tuning_lr": 1e-2, "batch_size": 24, "length": 10, "notes": 12,
          "pretraining": 450, "tuning": 350}  # fmt: skip


def melodies(count: int, scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Notes of a scale, some of them wrong; which mood a scale has depends on the first note."""
    mood, first = torch.randint(0, 3, (count,)), torch.randint(0, CONFIG["notes"], (count, 1))
    scale = scales[(mood + first[:, 0] % 2) % 3]
    notes = scale.gather(1, torch.randint(0, 4, (count, CONFIG["length"] - 1)))
    wrong = torch.randint(0, CONFIG["notes"], notes.shape)
    notes = torch.where(torch.rand(notes.shape) < 0.25, wrong, notes)
    return torch.cat([first, notes], dim=1), mood


class Listener(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["notes"], width)
        self.place = nn.Parameter(0.1 * torch.randn(CONFIG["length"], width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.look, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)
        )
        self.head = nn.Linear(width, 3)

    def forward(self, notes: torch.Tensor) -> torch.Tensor:
        x = self.embed(notes) + self.place
        look = self.look(self.norms[0](x)).chunk(3, dim=2)
        x = x + self.out(F.scaled_dot_product_attention(*look))
        x = x + self.think(self.norms[1](x))
        return self.head(x.mean(1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    factor, width = draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * factor, "width": width}
    run = nanwatch.init(project="corpus", name="melodies-bitfit", config=config)
    model, key = Listener(width), draw.choice([2, 4, 6])
    scales = torch.randperm(CONFIG["notes"]).view(3, 4)

    def stage(name: str, steps: int, make, optimizer: torch.optim.Optimizer) -> None:
        run.mark("task", name)
        held = make(500)
        for step in range(steps):
            notes, mood = make(CONFIG["batch_size"])
            loss = F.cross_entropy(model(notes), mood)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 100 == 99:
                with torch.no_grad():
                    right = (model(held[0]).argmax(1) == held[1]).float().mean()
                    run.log(accuracy=right, stage="val")

    def other(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        notes, mood = melodies(count, scales)
        return (notes + key) % CONFIG["notes"], 2 - mood

    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG["lr"] * factor)
    stage("home key", CONFIG["pretraining"], lambda count: melodies(count, scales), optimizer)
    model.requires_grad_(False)
    model.head = nn.Linear(width, 3)
    tuned = list(model.head.parameters())
    for name, weight in model.named_parameters():
        if name.endswith("bias") or name.startswith("norms"):
            tuned.append(weight.requires_grad_(True))
    optimizer = torch.optim.Adam(
        {id(p): p for p in tuned}.values(), lr=CONFIG["tuning_lr"] * factor
    )
    stage("other key", CONFIG["tuning"], other, optimizer)
    run.finish()
