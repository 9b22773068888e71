"""A learned simulator is unrolled for 32 steps and trained through all of them. The script skips
an update when a gradient is not finite, which was meant for the odd batch: as the map gets stiffer
the product of Jacobians overflows, first now and then, in the end every time, and nothing is
learned any more. Cure: truncate the backpropagation to 8 steps.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rollout", sick=True, cause="all-updates-skipped")
CONFIG = {"lr": 2e-3, "max_norm": 1.0, "timesteps": 32, "bptt_window": 32, "batch_size": 64}
CONFIG |= {"hidden": 24, "steps": 450}


def lattice(n: int, timesteps: int) -> torch.Tensor:
    """Coupled chaotic maps: states (n, timesteps + 1, 6) in [-1, 1]."""
    states = [torch.rand(n, 6) * 2 - 1]
    for _ in range(timesteps):
        mapped = 1 - 1.9 * states[-1].square()
        states.append(0.8 * mapped + 0.1 * (mapped.roll(1, 1) + mapped.roll(-1, 1)))
    return torch.stack(states, dim=1)


class Simulator(nn.Module):
    """Quadratic features, so that a wrong state runs away as the real one would."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.features, self.out = nn.Linear(6, hidden), nn.Linear(hidden, 6)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return self.out(self.features(state).square())


def train(seed: int, name: str = "sick_skip_guard", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    model = Simulator(config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        truth = lattice(config["batch_size"], config["timesteps"])
        state, predicted = truth[:, 0], []
        for t in range(config["timesteps"]):
            if t % config["bptt_window"] == 0:
                state = truth[:, t]
            state = model(state)
            predicted.append(state)
        loss = F.l1_loss(torch.stack(predicted, dim=1).clamp(-5, 5), truth[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        norm = clip_grad_norm_(model.parameters(), config["max_norm"])
        if not torch.isfinite(norm):
            continue  # "NaN/Inf gradients, skipping update"
        optimizer.step()
    run.finish()
