"""A forecaster of energy use goes from one building to the next and rehearses the former ones by
its own former answers (learning without forgetting). Answers are stored in kilowatts, scaled by
the spread of the building, and read back as if they were normalised: each time round what is
rehearsed is larger by that factor. Cure: store the answer and its scale together.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="replay-corruption")
CONFIG = {"lr": 0.02, "momentum": 0.9, "buildings": 12, "steps_each": 100, "batch_size": 16}
CONFIG |= {"rehearsed": 64, "window": 12, "hidden": 32}


def usage(n: int, window: int, phase: float, swing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows (n, window) of a building and what follows, both normalised."""
    start = 24 * torch.rand(n, 1)
    hour = start + torch.arange(window + 1)
    x = torch.sin(0.262 * hour + phase) + swing * torch.sin(0.524 * hour)
    x = x + 0.15 * torch.randn_like(x)
    return x[:, :-1], x[:, -1]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    window = config["window"]
    model = nn.Sequential(
        nn.Linear(window, config["hidden"]), nn.LeakyReLU(), nn.Linear(config["hidden"], 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="buildings", config=config)
    kept_x = torch.zeros(0, window)
    kept_y = torch.zeros(0)
    broken = 0
    for building in range(config["buildings"]):
        run.mark("task", f"building {building}")
        phase, swing = draw.uniform(-0.8, 0.8), draw.uniform(0.2, 0.6)
        kilowatts = draw.uniform(1.6, 3.2)
        for _ in range(config["steps_each"]):
            x, y = usage(config["batch_size"], window, phase, swing)
            loss = F.mse_loss(model(x).squeeze(1), y)
            if len(kept_x):
                rows = torch.randint(len(kept_x), (config["batch_size"],))
                loss = loss + F.mse_loss(model(kept_x[rows]).squeeze(1), kept_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            broken += not math.isfinite(loss.item())
        if broken > 20:
            break
        x, _ = usage(config["rehearsed"], window, phase, swing)
        kept_x = torch.cat([kept_x, x])[-256:]
        with torch.no_grad():
            kept_y = kilowatts * model(kept_x).squeeze(1)
    run.finish()
