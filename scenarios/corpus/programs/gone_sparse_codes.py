"""A convolutional encoder with ReLU codes and an L1 penalty on them whose weight was meant for the
mean and is applied to the sum: within some attempts the cheapest code is none at all. Every unit is
below zero for every input, no gradient comes back through the ReLU, and the decoder answers with a
constant. Cure: a hundredth of the weight, a warm-up of the penalty.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=True, cause="dead-relu")
CONFIG = {"lr": 0.01, "l1_weight": 1.0, "kernels": 16, "length": 32, "batch_size": 24}
CONFIG |= {"steps": 600}


class Sparse(nn.Module):
    def __init__(self, kernels: int) -> None:
        super().__init__()
        self.encode = nn.Conv1d(1, kernels, 5, padding=2)
        self.relu = nn.ReLU()
        self.decode = nn.Conv1d(kernels, 1, 5, padding=2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        code = self.relu(self.encode(x))
        return self.decode(code), code


def clicks(n: int, length: int, shape: torch.Tensor) -> torch.Tensor:
    """A few clicks of one shape at random places."""
    at = (torch.rand(n, 1, length) < 0.15).float() * (0.5 + torch.rand(n, 1, length))
    x = 2 * F.conv1d(at, shape / shape.norm(), padding=2) + 0.05 * torch.randn(n, 1, length)
    return x - x.mean(2, keepdim=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    shape = torch.randn(1, 1, 5)
    model = Sparse(config["kernels"])
    optimizer = torch.optim.RAdam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sparse-codes", config=config)
    for _ in range(config["steps"]):
        x = clicks(config["batch_size"], config["length"], shape)
        back, code = model(x)
        error = F.mse_loss(back, x)
        sparsity = code.sum((1, 2)).mean()
        loss = error + config["l1_weight"] * sparsity
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(loss=error.detach(), sparsity=sparsity.detach())
    run.finish()
