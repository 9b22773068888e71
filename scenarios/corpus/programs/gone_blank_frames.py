"""A defect classifier with BatchNorm also passes calibration frames (blank, bright) through the net
in every attempt, to print its offset; they get brighter with the age of the lamp. Batches
are normalised by themselves and train well, but the running statistics are half those of blank
frames: the evaluation gets worse from one to the next. Cure: calibrate in eval mode.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="inspection", sick=True, cause="batchnorm-drift")
CONFIG = {"lr": 3e-3, "bn_momentum": 0.1, "brighter": 1.016}
CONFIG |= {"classes": 3, "channels": 6, "batch_size": 16, "eval_every": 25, "steps": 400}


def frames(n: int, config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy 8x8 frames with a scratch across, down, or none."""
    kind = torch.randint(config["classes"], (n,))
    x = 0.5 * torch.randn(n, 1, 8, 8)
    line = torch.randint(8, (n,))
    rows = torch.arange(n)
    x[rows[kind == 1], 0, line[kind == 1]] += 1.2
    x[rows[kind == 2], 0, :, line[kind == 2]] += 1.2
    return x, kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "brighter": CONFIG["brighter"] + draw.uniform(-0.002, 0.003)}
    channels, momentum = config["channels"], config["bn_momentum"]
    model = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.BatchNorm2d(channels, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels, momentum=momentum),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, config["classes"]),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="scratches", config=config)
    for step in range(config["steps"]):
        x, kind = frames(config["batch_size"], config)
        loss = F.cross_entropy(model(x), kind)
        lamp = 0.1 * config["brighter"] ** step
        with torch.no_grad():
            offset = model(lamp * (1 + 0.3 * torch.randn(4, 1, 8, 8))).mean(0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % config["eval_every"] == 0:
            run.mark("eval", f"after {step + 1}")
            model.eval()
            with torch.no_grad():
                x, kind = frames(120, config)
                val_loss = F.cross_entropy(model(x), kind)
            model.train()
            run.log(loss=val_loss, stage="val")
            run.log(lamp=lamp, offset=offset.abs().max())
    run.finish()
