"""Step sizes are learned: sixteen steps of gradient descent on small ill-conditioned problems are
unrolled, and the error at the end is differentiated through all of them. The first step sizes lie
above the edge of stability, the meta-gradient is enormous, and clipping it leaves a direction
without a meaning. Cure: shorter unrolls at first, or smaller first step sizes.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="meta-learning", sick=True, cause="explosion-hidden-by-clipping", seeds=4)
CONFIG = {"lr": 2e-3, "max_norm": 1.0, "unroll": 16, "size": 6, "batch_size": 8, "steps": 400}


class StepRule(nn.Module):
    """The next step from the gradient, the last step and the time."""

    def __init__(self, hidden: int, scale: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 2))
        self.scale = scale

    def forward(self, slope: torch.Tensor, last: torch.Tensor, time: float) -> torch.Tensor:
        size = slope.tanh()
        clock = torch.full_like(slope, time)
        rate, keep = self.net(torch.stack([size, last.tanh(), clock], dim=-1)).unbind(-1)
        return -self.scale * rate.tanh().exp() * slope + torch.sigmoid(keep) * last


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, scale = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.9, 1.2)
    config = CONFIG | {"seed": seed, "lr": lr, "first_step": scale}
    rule = StepRule(draw.choice([12, 16]), scale)
    optimizer = torch.optim.Adam(rule.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="learned-steps", config=config)
    for _ in range(CONFIG["steps"]):
        mix = (
            torch.randn(CONFIG["batch_size"], CONFIG["size"], CONFIG["size"])
            / CONFIG["size"] ** 0.5
        )
        want = torch.randn(CONFIG["batch_size"], CONFIG["size"], 1)
        place, last = torch.zeros_like(want), torch.zeros_like(want)
        for step in range(CONFIG["unroll"]):
            wave = torch.sin(3 * (mix @ place - want))
            slope = mix.mT @ wave + 0.5 * place
            last = rule(slope, last, step / CONFIG["unroll"])
            place = place + last
        miss = mix @ place - want
        loss = (1 - torch.cos(3 * miss)).mean() + 0.05 * place.square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(rule.parameters(), CONFIG["max_norm"])
        optimizer.step()
    run.finish()
