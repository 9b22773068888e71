"""A Bayesian net for the yield of a reactor, trained by its ELBO. The KL term is weighted from zero
to its full share over most of the training: the loss falls, then rises as the term comes in, and
the fit on held-out rows stays good."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="bayesian", sick=False, seeds=4)
CONFIG = {"lr": 5e-3, "batch_size": 64, "steps": 900, "columns": 6, "width": 32, "rows": 1500}
CONFIG |= {"prior": 1.0, "ramp_from": 200, "ramp_to": 700, "log_dev": -3.0}


class BayesLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.log_dev = nn.Parameter(torch.full((outputs, inputs), CONFIG["log_dev"]))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = F.linear(x, self.mean, self.bias)
        wide = F.linear(x.square(), (2 * self.log_dev).exp()).clamp_min(1e-12)
        return near + wide.sqrt() * torch.randn_like(near) if self.training else near

    def kl(self) -> torch.Tensor:
        narrow = self.log_dev - math.log(CONFIG["prior"])
        moved = (self.mean / CONFIG["prior"]).square()
        return ((2 * narrow).exp() + moved - 1 - 2 * narrow).sum() / 2


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.35)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    x = torch.randn(CONFIG["rows"] + 200, CONFIG["columns"])
    y = torch.sin(1.5 * x[:, :1]) + x[:, 1:2] * torch.tanh(x[:, 2:3]) + 0.5 * x[:, 3:4]
    y = y + noise * torch.randn_like(y)
    width = CONFIG["width"]
    first, last = BayesLinear(CONFIG["columns"], width), BayesLinear(width, 1)
    net = nn.Sequential(first, nn.Tanh(), last)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="reactor-bayes", config=config)
    for step in range(CONFIG["steps"]):
        net.train()
        rows = torch.randint(0, CONFIG["rows"], (CONFIG["batch_size"],))
        share = (step - CONFIG["ramp_from"]) / (CONFIG["ramp_to"] - CONFIG["ramp_from"])
        share = min(1.0, max(0.0, share))
        fit = (net(x[rows]) - y[rows]).square().mean() / (2 * 0.3**2)
        loss = fit + share * (first.kl() + last.kl()) / CONFIG["rows"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            net.eval()
            with torch.no_grad():
                held = F.mse_loss(net(x[CONFIG["rows"] :]), y[CONFIG["rows"] :])
            run.log(loss=held, stage="val")
    run.finish()
