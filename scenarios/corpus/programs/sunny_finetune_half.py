"""An encoder pretrained to fill gaps is tuned to name birds from calls: first the head alone, then
all of it with a smaller rate for lower layers, in float16 with a GradScaler that skips an update
now and then when it has doubled its scale."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=3)
CONFIG = {"pretrain_lr": 2e-3, "pretrain_steps": 300, "head_lr": 5e-3, "head_steps": 150}
CONFIG |= {
    "lr": 1e-3,
    "decay_by_layer": 0.5,
    "steps": 450,
    "batch_size": 32,
    "classes": 6,
    "bins": 32,
}


def calls(count: int, classes: int, bins: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra: a base note and overtones whose heights depend on the species."""
    y = torch.randint(0, classes, (count,))
    place, base = torch.arange(bins), 3 + 3 * torch.rand(count, 1)
    x = torch.zeros(count, bins)
    for overtone in range(1, 6):
        height = 0.5 + 0.5 * torch.sin(1.7 * overtone * (y + 1))[:, None]
        x += height * torch.exp(-((place - overtone * base) ** 2) / 1.5)
    return x + noise * torch.randn_like(x), y


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    bins, noise = config["bins"], draw.uniform(0.1, 0.2)
    layers = [
        nn.Sequential(nn.Linear(bins if i == 0 else 64, 64), nn.LayerNorm(64), nn.GELU())
        for i in range(3)
    ]
    encoder, filler = nn.Sequential(*layers), nn.Linear(64, bins)
    x, _ = calls(4000, config["classes"], bins, noise)
    run = nanwatch.init(project="corpus", name="bird-calls", config=config)
    run.mark("task", "pretraining")
    optimizer = torch.optim.Adam(
        [*encoder.parameters(), *filler.parameters()], lr=config["pretrain_lr"]
    )
    for _ in range(config["pretrain_steps"]):
        rows = x[torch.randint(0, len(x), (64,))]
        gaps = torch.rand_like(rows) < 0.3
        loss = (filler(encoder(rows.masked_fill(gaps, 0))) - rows)[gaps].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = calls(500, config["classes"], bins, noise)
    test_x, test_y = calls(600, config["classes"], bins, noise)
    head = nn.Linear(64, config["classes"])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=60)

    def tune(optimizer: torch.optim.Optimizer, steps: int) -> None:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            rows = torch.randint(0, len(x), (config["batch_size"],))
            with torch.autocast("cpu", dtype=torch.float16):
                loss = F.cross_entropy(head(encoder(x[rows])), y[rows])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() >= scale:
                schedule.step()
            if step % 75 == 74:
                with torch.no_grad():
                    right = (head(encoder(test_x)).argmax(1) == test_y).float().mean()
                run.log(accuracy=right, stage="val")

    run.mark("task", "head alone")
    encoder.requires_grad_(False)
    tune(torch.optim.AdamW(head.parameters(), lr=config["head_lr"]), config["head_steps"])
    run.mark("task", "all layers")
    encoder.requires_grad_(True)
    groups = [{"params": head.parameters(), "lr": config["lr"]}]
    for depth, layer in enumerate(reversed(layers), 1):
        rate = config["lr"] * config["decay_by_layer"] ** depth
        groups.append({"params": layer.parameters(), "lr": rate})
    tune(torch.optim.AdamW(groups, weight_decay=0.01), config["steps"])
    run.finish()
