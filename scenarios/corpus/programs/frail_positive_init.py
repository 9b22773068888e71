"""A student of a speech recogniser's rescoring reads logarithms of probabilities, all below zero.
The weights were drawn by `nn.init.uniform_`, whose range is 0 to 1 unless one says otherwise:
every sum is negative, no ReLU of the first layer opens for any row, and only the last bias
learns. Cure: the default initialisation, or a range around zero.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=True, cause="dead-relu", seeds=4)
CONFIG = {"lr": 3e-3, "batch_size": 32, "steps": 700, "classes": 4, "candidates": 12}


def hypotheses(rows: int, sharpness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of twelve candidates; the label is the group with the most of it."""
    logits = sharpness * torch.randn(rows, CONFIG["candidates"])
    scores = logits.log_softmax(1)
    groups = scores.exp().view(rows, CONFIG["classes"], -1).sum(2)
    return scores, groups.argmax(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    x, y = hypotheses(3000, draw.uniform(1.5, 2.5))
    model = nn.Sequential(
        nn.Linear(CONFIG["candidates"], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, CONFIG["classes"]),
    )  # fmt: skip
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=lr, alpha=0.95)
    run = nanwatch.init(project="corpus", name="rescoring", config=config)
    run.watch(model=model)
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            run.log(bits=loss.item() / math.log(2))
    run.finish()
