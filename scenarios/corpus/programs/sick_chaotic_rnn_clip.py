"""A tanh RNN whose recurrent weights start four times too large follows a phase over eighty steps,
with clipping at 1.0. The state is chaotic, the gradient through all steps is 1e6 to 1e12 and only
its direction survives the clip: noise. The readout learns a little, the recurrence nothing; never
NaN. Cure: orthogonal recurrent weights (`twin_rnn_orthogonal`) or a short BPTT window.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="explosion-hidden-by-clipping")
CONFIG = {"lr": 1e-3, "max_norm": 1.0, "gain": 4.0, "timesteps": 80, "hidden": 24, "steps": 600}


def phases(n: int, timesteps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy frequency (n, timesteps, 1) and the position (n, timesteps, 2) on the circle."""
    pace = 0.1 + 0.05 * torch.randn(n, 1, 1) + 0.02 * torch.randn(n, timesteps, 1)
    angle = pace.cumsum(1)
    return pace * 5, torch.cat([angle.cos(), angle.sin()], dim=2)


class Follower(nn.Module):
    def __init__(self, hidden: int, gain: float) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 2)
        if gain:
            nn.init.normal_(self.rnn.weight_hh_l0, std=gain / hidden**0.5)
        else:
            nn.init.orthogonal_(self.rnn.weight_hh_l0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.readout(self.rnn(x)[0])


def train(seed: int, name: str = "sick_chaotic_rnn_clip", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    model = Follower(config["hidden"], config["gain"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        x, y = phases(16, config["timesteps"])
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
