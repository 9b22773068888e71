"""A masked autoregressive flow with a Student-t base learns heavy-tailed returns of four assets:
a negative log likelihood below zero at the end, whose batches now and then hold a crash."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import StudentT

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=False, seeds=6)
CONFIG = {"lr": 1.5e-3, "batch_size": 64, "layers": 3, "weight_decay": 1e-5, "steps": 700}


class MaskedLinear(nn.Linear):
    """A weight only where the output may see the input."""

    def __init__(self, degrees_in: torch.Tensor, degrees_out: torch.Tensor, strict: bool) -> None:
        super().__init__(len(degrees_in), len(degrees_out))
        behind = degrees_out[:, None] - int(strict) >= degrees_in
        self.register_buffer("mask", behind.float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


class Layer(nn.Module):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        inputs, middle = torch.arange(size), torch.arange(hidden) % (size - 1)
        self.first = MaskedLinear(inputs, middle, strict=False)
        self.second = MaskedLinear(middle, inputs.repeat(2), strict=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shift, log_scale = self.second(torch.tanh(self.first(x))).chunk(2, dim=1)
        log_scale = 3 * torch.tanh(log_scale / 3)
        return (x - shift) * torch.exp(-log_scale), -log_scale.sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden, heavy = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32]), 3.0
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "degrees_of_freedom": heavy}
    run = nanwatch.init(project="corpus", name="tail-flow", config=config)
    mixing, market = 0.3 * torch.randn(4, 4).tril(), StudentT(heavy)

    def returns(count: int) -> torch.Tensor:
        raw = market.sample((count, 4))
        calm = torch.sigmoid(raw[:, :1])
        return (
            0.2
            * (raw * torch.cat([torch.ones(count, 1), calm.expand(-1, 3)], 1))
            @ (torch.eye(4) + mixing)
        )

    flow = nn.ModuleList(Layer(4, hidden) for _ in range(CONFIG["layers"]))
    optimizer = torch.optim.AdamW(flow.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    base = StudentT(heavy)

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(x))
        for layer in flow:
            x, log_det = layer(x)
            x, total = x.flip(1), total + log_det
        return -(base.log_prob(x).sum(1) + total).mean()

    for step in range(CONFIG["steps"]):
        loss = loss_of(returns(CONFIG["batch_size"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=loss_of(returns(1000)), stage="val")
    run.finish()
