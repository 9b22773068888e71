"""Self-paced learning of handwritten notes of mixed legibility: only samples with a loss below a
threshold count, and the threshold rises, so the loss drops at once and then stays or creeps up."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=False, seeds=6)
CONFIG = {"lr": 5e-4, "batch_size": 64, "warmup": 150, "pace": 0.8, "pace_end": 5.0, "classes": 8,
          "steps": 900}  # fmt: skip


def notes(count: int, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Strokes of a sign, written by a bent hand, more or less legible."""
    label = torch.randint(0, len(faces), (count,))
    x = faces[label]
    blur = 2.2 * torch.rand(count, 1) ** 2
    return x + 0.5 * torch.sin(x.roll(1, 1) * 2) + blur * torch.randn_like(x), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="notes-self-paced", config=config)
    faces = 0.8 * torch.randn(CONFIG["classes"], 20)
    known, held = notes(4000, faces), notes(1000, faces)
    model = nn.Sequential(
        nn.Linear(20, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, CONFIG["classes"])
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.02)
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, len(known[0]), (CONFIG["batch_size"],))
        nats = F.cross_entropy(model(known[0][rows]), known[1][rows], reduction="none")
        share = max(0.0, step - CONFIG["warmup"]) / (CONFIG["steps"] - CONFIG["warmup"])
        pace = CONFIG["pace"] * (CONFIG["pace_end"] / CONFIG["pace"]) ** share
        legible = nats.detach() < pace if step >= CONFIG["warmup"] else nats.detach() < 1e9
        loss = (nats * legible).sum() / legible.sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 150 == 149:
            with torch.no_grad():
                logits = model(held[0])
                right = (logits.argmax(1) == held[1]).float().mean()
                run.log(accuracy=right, kept=legible.float().mean(), stage="val")
    run.finish()
