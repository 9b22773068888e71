"""A neural hidden Markov model of sleep stages. The forward algorithm multiplies probabilities as
the book writes it; while nights are short that is fine. Nights get longer in a curriculum until
the product underflows in float32 and the log of it is minus infinity. Cure: log-sum-exp, or
scaling.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="log-of-zero")
CONFIG = {"lr": 0.02, "stages": 4, "channels": 3, "hidden": 16, "batch_size": 8, "steps_each": 130}
CONFIG |= {"shortest": 6, "longer": 4, "levels": 7}


def nights(count: int, length: int, levels: torch.Tensor, noise: float) -> torch.Tensor:
    """Signals [length, count, channels] of stages that last for a while."""
    stage, rows = torch.randint(len(levels), (count,)), []
    for _ in range(length):
        change = torch.rand(count) < 0.15
        stage = torch.where(change, torch.randint(len(levels), (count,)), stage)
        rows.append(levels[stage] + noise * torch.randn(count, levels.shape[1]))
    return torch.stack(rows)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    stages, channels = config["stages"], config["channels"]
    levels, noise = 1.5 * torch.randn(stages, channels), draw.uniform(0.5, 0.8)
    moves = nn.Parameter(torch.randn(stages, stages))
    centres = nn.Sequential(
        nn.Linear(stages, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 2 * channels)
    )
    model = nn.ParameterList([moves, *centres.parameters()])
    optimizer = torch.optim.RAdam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sleep-hmm", config=config)
    broken = 0
    for level in range(config["levels"]):
        length = config["shortest"] + config["longer"] * level
        run.mark("task", f"nights of {length}")
        for _ in range(config["steps_each"]):
            x = nights(config["batch_size"], length, levels, noise)
            mean, log_std = centres(torch.eye(stages)).chunk(2, dim=1)
            z = (x[:, :, None] - mean) / log_std.exp()
            emission = torch.exp(-0.5 * z.square()).prod(3) / (2.5066 * log_std.exp()).prod(1)
            forward = emission[0] / stages
            for t in range(1, length):
                forward = (forward @ moves.softmax(1)) * emission[t]
            loss = -forward.sum(1).log().mean() / length
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            broken += not torch.isfinite(loss)
            if broken > 15:
                run.finish()
                return
    run.finish()
