"""A classifier for a small sensor is pruned while it learns: every thirty steps a fifth of the
weights that are left, smallest first, all layers together. It was to stop at a density of a tenth,
and never does: layers are emptied one after the other and what was learned is lost. Cure: stop.
"""

from __future__ import annotations

import random
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pruning", sick=True, cause="dead-relu", seeds=4)
CONFIG = {"lr": 0.05, "momentum": 0.9, "classes": 8, "batch_size": 64, "steps": 900}
CONFIG |= {"prune_from": 200, "prune_every": 30, "amount": 0.2}


class Sparse(nn.Module):
    """Five layers, one of them narrow; weights that were pruned stay zero."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        sizes = [inputs, width, width, 12, width, CONFIG["classes"]]
        self.layers = nn.ModuleList(nn.Linear(here, there) for here, there in pairwise(sizes))
        self.masks = [torch.ones_like(layer.weight) for layer in self.layers]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)

    @torch.no_grad()
    def prune(self, amount: float) -> None:
        """The smallest of the weights that are left, of all layers together."""
        pairs = list(zip(self.layers, self.masks, strict=True))
        left = [layer.weight.abs()[mask > 0] for layer, mask in pairs]
        limit = torch.cat(left).quantile(amount)
        for layer, mask in pairs:
            mask *= (layer.weight.abs() > limit).float()

    @torch.no_grad()
    def apply_masks(self) -> None:
        for layer, mask in zip(self.layers, self.masks, strict=True):
            layer.weight *= mask

    def density(self) -> float:
        kept = sum(float(mask.sum()) for mask in self.masks)
        return kept / sum(mask.numel() for mask in self.masks)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 56, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    kinds = config["classes"]
    middles = 1.2 * torch.randn(kinds, 3, 20)
    net = Sparse(20, width)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="pruning", config=config)
    for step in range(config["steps"]):
        y = torch.randint(0, kinds, (config["batch_size"],))
        middle = middles[y, torch.randint(0, 3, y.shape)]
        loss = F.cross_entropy(net(middle + 0.6 * torch.randn(len(y), 20)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= config["prune_from"] and step % config["prune_every"] == 0:
            net.prune(config["amount"])
            run.log(density=net.density())
        net.apply_masks()
    run.finish()
