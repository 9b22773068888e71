"""A learned simulator of the Hénon map, which starts out chaotic, is trained through sixty steps
with clipping at 0.5: the norm before the clip grows from 1e2 to 1e10, the clipped direction is
that of the worst sample of the batch, and the loss hardly gets below that of a constant. Clipping
hides it. Cure: bptt_window 6 (`twin_rollout_truncated`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rollout", sick=True, cause="explosion-hidden-by-clipping")
CONFIG = {"lr": 5e-4, "max_norm": 0.5, "timesteps": 60, "bptt_window": 60, "batch_size": 16}
CONFIG |= {"hidden": 24, "steps": 400}


def henon(n: int, timesteps: int) -> torch.Tensor:
    """Paths (n, timesteps + 1, 2) of the Hénon map, scaled to about one."""
    x, y = torch.rand(n) * 0.2, torch.rand(n) * 0.2
    path = []
    for _ in range(timesteps + 1):
        path.append(torch.stack([x, 3 * y], dim=1))
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
    return torch.stack(path, dim=1)


class Simulator(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, hidden), nn.Linear(hidden, 2)
        nn.init.normal_(self.last.weight, std=2 / hidden**0.5)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(4 * self.first(state)))


def train(seed: int, name: str = "sick_rollout_clip", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    model = Simulator(config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        truth = henon(config["batch_size"], config["timesteps"])
        state, predicted = truth[:, 0], []
        for t in range(config["timesteps"]):
            if t % config["bptt_window"] == 0:
                state = truth[:, t]
            state = model(state)
            predicted.append(state)
        loss = F.mse_loss(torch.stack(predicted, dim=1), truth[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
