"""A small training whose middle layer takes the logarithm of a negative number once a file exists.

python bad_layer.py FILE [STEPS_PER_SECOND]
"""

from __future__ import annotations

import os
import sys
import time

import torch
from torch import nn

import nanwatch


class Logarithm(nn.Module):
    """Well-behaved until the file appears."""

    def __init__(self, switch: str) -> None:
        super().__init__()
        self.switch = switch
        self.project = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if os.path.exists(self.switch):
            return torch.log(-1.0 - self.project(x).abs())
        return torch.log(1.0 + self.project(x).abs())


def main() -> None:
    switch = sys.argv[1]
    pause = 1.0 / float(sys.argv[2]) if len(sys.argv) > 2 else 0.02
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("first", nn.Linear(8, 16))
    model.add_module("logarithm", Logarithm(switch))
    model.add_module("last", nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    nanwatch.init(project="e2e", control=nanwatch.Control(tracing=True))
    for _ in range(100_000):
        x = torch.randn(32, 8)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(pause)


main()
