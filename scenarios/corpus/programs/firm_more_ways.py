"""Few-shot learning by prototypes with episodes that get harder: from 3 kinds of coins to 6, to 12
and to 20, always one example of each. At every change the loss jumps, a single episode may be ten
times as bad as the one before, and the net gets better all along.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum-few-shot", sick=False, seeds=4)
CONFIG = {"lr": 2e-3, "ways": (3, 6, 12, 20), "steps_each": 200, "asked": 3, "side": 9}
CONFIG |= {"channels": 8, "code": 24, "noise": 0.5}


def coins(patterns: torch.Tensor, each: int, noise: float) -> torch.Tensor:
    """(kinds, each, 1, side, side): stampings, shifted, worn and with noise."""
    kinds, side = len(patterns), patterns.shape[-1]
    worn = 0.5 + torch.rand(kinds, each, 1, 1)
    moved = torch.stack(
        [patterns.roll(random.randint(-1, 1), random.choice((1, 2))) for _ in range(each)], dim=1
    )
    return (worn * moved + noise * torch.randn(kinds, each, side, side)).unsqueeze(2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    side, channels = config["side"], config["channels"]
    smooth = nn.AvgPool2d(3, 1, 1)
    mint = smooth(torch.randn(120, side, side)) * 3
    foreign = smooth(torch.randn(20, side, side)) * 3
    model = nn.Sequential(
        nn.Conv2d(1, channels, 3), nn.ReLU(), nn.Conv2d(channels, 2 * channels, 3, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(18 * channels, config["code"]),
    )  # fmt: skip
    optimizer = torch.optim.NAdam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="coins-few-shot", config=config)

    def episode(patterns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        each = config["asked"] + 1
        code = model(coins(patterns, each, config["noise"]).flatten(0, 1))
        code = code.view(len(patterns), each, -1)
        asked = code[:, 1:].flatten(0, 1)
        logits = -torch.cdist(asked, code[:, 0]).square() / config["code"] ** 0.5
        return logits, torch.arange(len(patterns)).repeat_interleave(config["asked"])

    for ways in config["ways"]:
        run.mark("task", f"{ways} kinds")
        for step in range(config["steps_each"]):
            loss = F.cross_entropy(*episode(mint[torch.randperm(len(mint))[:ways]]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 50 == 49:
                with torch.no_grad():
                    logits, kinds = episode(foreign)
                run.log(accuracy=(logits.argmax(1) == kinds).float().mean(), stage="val")
    run.finish()
