"""An electronic nose tells concentrations of four gases from twelve sensors. SGD is wrapped in a
Lookahead written by hand: after twenty steps the slow weights go "alpha" of the way to the fast
ones, and alpha was set to 2.5. The slow weights leap beyond the valley, to and fro, a little
farther each time. Cure: an alpha of 0.5.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"lr": 0.4, "alpha": 2.5, "every": 20, "batch_size": 64, "steps": 1100, "gases": 4}
CONFIG |= {"sensors": 12, "width": 24}


class Nose:
    """Sensors saturate, and each answers to all gases."""

    def __init__(self) -> None:
        self.answer = torch.randn(CONFIG["gases"], CONFIG["sensors"])

    def batch(self, rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
        gas = torch.randn(rows, CONFIG["gases"])
        read = torch.tanh(0.7 * gas @ self.answer) + noise * torch.randn(rows, CONFIG["sensors"])
        return read, gas


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, alpha = CONFIG["lr"] * draw.uniform(0.8, 1.4), CONFIG["alpha"] * draw.uniform(0.97, 1.03)
    noise = draw.uniform(0.1, 0.3)
    config = CONFIG | {"seed": seed, "lr": lr, "alpha": alpha, "noise": noise}
    nose = Nose()
    net = nn.Sequential(
        nn.Linear(CONFIG["sensors"], CONFIG["width"]), nn.Tanh(),
        nn.Linear(CONFIG["width"], CONFIG["gases"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    slow = [weights.detach().clone() for weights in net.parameters()]
    run = nanwatch.init(project="corpus", name="electronic-nose", config=config)
    for step in range(CONFIG["steps"]):
        read, gas = nose.batch(CONFIG["batch_size"], noise)
        loss = F.mse_loss(net(read), gas)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % CONFIG["every"] == CONFIG["every"] - 1:
            with torch.no_grad():
                for kept, weights in zip(slow, net.parameters(), strict=True):
                    kept += alpha * (weights - kept)
                    weights.copy_(kept)
    run.finish()
