"""A frame classifier under the CTC loss; a few utterances are shorter than their transcript, which
CTC can not align: their loss is infinite and their gradient NaN. Nothing announces it. Cure:
zero_infinity=True, or drop such utterances (`twin_ctc`).
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="speech", sick=True, cause="bad-batch")
CONFIG = {"lr": 3e-3, "zero_infinity": False, "short_share": 3e-3, "batch_size": 8}
CONFIG |= {"frames": 24, "letters": 5, "steps": 900}


def utterances(config: dict, alphabet: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Frames (frames, n, 12), their numbers (n,), letters (n, 5) in 1..8, their numbers (n,)."""
    n, frames, letters = config["batch_size"], config["frames"], config["letters"]
    target = torch.randint(1, len(alphabet), (n, letters))
    spoken = target.repeat_interleave(frames // letters + 1, dim=1)[:, :frames]
    x = alphabet[spoken] + 0.7 * torch.randn(n, frames, 12)
    length = torch.randint(frames - 4, frames + 1, (n,))
    if random.random() < config["short_share"]:
        length[0] = letters - 2  # cut off by the recorder
    return x.transpose(0, 1), length, target, torch.full((n,), letters)


def train(seed: int, name: str = "sick_ctc_short", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    alphabet = torch.randn(9, 12)
    model = nn.Sequential(
        nn.Linear(12, 40), nn.LayerNorm(40), nn.ReLU(), nn.Linear(40, 9), nn.LogSoftmax(dim=2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    loss_of = nn.CTCLoss(zero_infinity=config["zero_infinity"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        x, length, target, letters = utterances(config, alphabet)
        loss = loss_of(model(x), target, length, letters)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 25:
            break
    run.finish()
