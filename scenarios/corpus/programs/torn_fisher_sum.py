"""Elastic weight consolidation over three solar parks. The Fisher information was summed over the
samples instead of averaged, so that the penalty is hundreds of times as stiff as meant: Adam's
steps, right for the first park, throw the weights to and fro across a narrow valley. Cure: the
mean, or a rate a hundred times smaller after the first park.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="lr-too-high-late", seeds=4)
CONFIG = {"lr": 5e-3, "penalty": 100.0, "parks": 3, "steps_each": 220, "fisher_samples": 300}
CONFIG |= {"inputs": 9, "hidden": 40, "batch_size": 32}


class Park:
    """Power from weather; each park has its own panels."""

    def __init__(self, inputs: int, shared: torch.Tensor) -> None:
        self.inside = shared + 0.5 * torch.randn(inputs, 6)
        self.outside = torch.randn(6) / 2

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, len(self.inside))
        y = torch.tanh(x @ self.inside / 3) @ self.outside
        return x, (y + 0.2 * torch.randn(count)).view(-1, 1)


def fisher(model: nn.Module, park: Park, samples: int) -> list[torch.Tensor]:
    total = [torch.zeros_like(weight) for weight in model.parameters()]
    for _ in range(samples):
        x, y = park.sample(1)
        grads = torch.autograd.grad(F.mse_loss(model(x), y), list(model.parameters()))
        for kept, grad in zip(total, grads, strict=True):
            kept += grad.square()
    return total


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    hidden, shared = config["hidden"], torch.randn(config["inputs"], 6)
    model = nn.Sequential(nn.Linear(config["inputs"], hidden), nn.ELU(), nn.Linear(hidden, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    anchors: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    run = nanwatch.init(project="corpus", name="solar-ewc", config=config)
    for number in range(config["parks"]):
        run.mark("task", f"park {number}")
        park = Park(config["inputs"], shared)
        for _ in range(config["steps_each"]):
            x, y = park.sample(config["batch_size"])
            loss = F.mse_loss(model(x), y)
            for weights, importance in anchors:
                for now, then, much in zip(model.parameters(), weights, importance, strict=True):
                    loss = loss + config["penalty"] / 2 * (much * (now - then).square()).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights = [weight.detach().clone() for weight in model.parameters()]
        anchors.append((weights, fisher(model, park, config["fisher_samples"])))
    run.finish()
