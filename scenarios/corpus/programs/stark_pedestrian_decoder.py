"""Where will a pedestrian be in the next 40 frames? An encoder reads 12 frames of position, and a
decoder cell writes the rest, fed with its own positions. The cell was written by hand, with ReLU
in the state "as in the CNN", orthogonal weights, Adam at 0.064, and nothing is clipped. It learns
until the loop's gain passes one: then the far frames and the gradients leap by orders of
magnitude. Cure: a GRU, or clipping at 1.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="trajectory-forecasting", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 0.064, "batch_size": 32, "steps": 500, "seen": 12, "ahead": 40}
CONFIG |= {"hidden": 48}


class Forecaster(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(2, hidden), nn.Linear(2, hidden)
        self.keep, self.go_on = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 2)
        nn.init.orthogonal_(self.keep.weight)
        nn.init.orthogonal_(self.go_on.weight)

    def forward(self, seen: torch.Tensor, ahead: int) -> torch.Tensor:
        state = torch.zeros(len(seen), self.out.in_features)
        for t in range(seen.shape[1]):
            state = F.relu(self.read(seen[:, t]) + self.keep(state))
        place, places = seen[:, -1], []
        for _ in range(ahead):
            state = F.relu(self.write(place) + self.go_on(state))
            place = place + 0.1 * self.out(state)
            places.append(place)
        return torch.stack(places, 1)


def walks(count: int, frames: int, noise: float) -> torch.Tensor:
    """People who walk at their pace and turn slowly, in a square of 10 metres."""
    heading = 6.28 * torch.rand(count, 1) + 0.03 * torch.randn(count, frames).cumsum(1)
    heading = heading + 0.04 * torch.randn(count, 1) * torch.arange(frames)
    pace = 0.05 + 0.1 * torch.rand(count, 1)
    steps = pace.unsqueeze(2) * torch.stack([heading.cos(), heading.sin()], 2)
    start = 4 * torch.rand(count, 1, 2) - 2
    return start + steps.cumsum(1) + noise * torch.randn(count, frames, 2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.9, 1.3)}
    noise = draw.uniform(0.005, 0.02)
    seen, ahead = config["seen"], config["ahead"]
    model = Forecaster(config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), config["lr"])
    data = walks(3000, seen + ahead, noise)
    run = nanwatch.init(project="corpus", name="pedestrians", config=config)
    for _ in range(config["steps"]):
        batch = data[torch.randint(len(data), (config["batch_size"],))]
        loss = F.mse_loss(model(batch[:, :seen], ahead), batch[:, seen:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
