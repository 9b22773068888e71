"""Two views of the same thing matched by contrast with a learned temperature, as in CLIP: logits
grow all run long with the temperature, and the loss starts at the logarithm of the batch size."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=False, seeds=7)
CONFIG = {"lr": 3e-3, "batch_size": 48, "scale_lr": 0.01, "weight_decay": 0.05, "steps": 800}


def tower(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, 8)
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="clip", config=config)
    to_image, to_text = torch.randn(6, 20), torch.randn(6, 14)

    def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        thing = torch.randn(count, 6)
        image = torch.tanh(thing @ to_image) + 0.2 * torch.randn(count, 20)
        return image, torch.relu(thing @ to_text) + 0.2 * torch.randn(count, 14)

    image_tower, text_tower = tower(20, hidden), tower(14, hidden)
    log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    towers = [*image_tower.parameters(), *text_tower.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": towers},
            {"params": [log_scale], "lr": CONFIG["scale_lr"], "weight_decay": 0.0},
        ],
        lr=lr,
        weight_decay=CONFIG["weight_decay"],
        fused=True,
    )

    def logits_of(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        left = F.normalize(image_tower(image), dim=1)
        right = F.normalize(text_tower(text), dim=1)
        return log_scale.exp() * left @ right.t()

    for step in range(CONFIG["steps"]):
        logits = logits_of(*pairs(CONFIG["batch_size"]))
        wanted = torch.arange(len(logits))
        loss = 0.5 * (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.t(), wanted))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            log_scale.clamp_(0, math.log(100))
        if step % 100 == 99:
            with torch.no_grad():
                logits = logits_of(*pairs(200))
            right = logits.argmax(1) == torch.arange(200)
            run.log(top1=right.float().mean(), temperature=1 / log_scale.exp(), stage="val")
    run.finish()
