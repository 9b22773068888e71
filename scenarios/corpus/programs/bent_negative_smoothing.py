"""Engine sounds by kind. Label smoothing was written by hand with a minus, so that wrong classes
get a negative share of the target: the loss has no floor, logits grow as long as the training runs,
and the held-out cross-entropy climbs after it had fallen. Cure: plus.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="logit-growth", seeds=4)
CONFIG = {"lr": 4e-3, "smoothing": 0.1, "batch_size": 32, "steps": 800, "classes": 8, "bands": 32}


def sounds(kind: torch.Tensor, spectra: torch.Tensor, noise: float) -> torch.Tensor:
    """Logarithms of the power in bands, louder or softer."""
    loud = 0.5 * torch.randn(len(kind), 1)
    return spectra[kind] + loud + noise * torch.randn(len(kind), CONFIG["bands"])


def targets(kind: torch.Tensor) -> torch.Tensor:
    share = CONFIG["smoothing"]
    hot = F.one_hot(kind, CONFIG["classes"]).float()
    return (1 + share) * hot - share / CONFIG["classes"]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config |= {"noise": draw.uniform(1.3, 1.7), "width": draw.choice([32, 48])}
    width, spectra = config["width"], torch.randn(CONFIG["classes"], CONFIG["bands"])
    model = nn.Sequential(
        nn.Linear(CONFIG["bands"], width), nn.ELU(), nn.Linear(width, width), nn.ELU(),
        nn.Linear(width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="engine-sounds", config=config)
    held = torch.randint(CONFIG["classes"], (256,))
    held_x = sounds(held, spectra, config["noise"])
    for step in range(CONFIG["steps"]):
        kind = torch.randint(CONFIG["classes"], (CONFIG["batch_size"],))
        logits = model(sounds(kind, spectra, config["noise"]))
        loss = -(targets(kind) * logits.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            with torch.no_grad():
                logits = model(held_x)
            right = (logits.argmax(1) == held).float().mean()
            run.log(loss=F.cross_entropy(logits, held), accuracy=right, stage="val")
    run.finish()
