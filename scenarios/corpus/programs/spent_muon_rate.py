"""A small language model of chess-like moves is trained by Muon (orthogonalised momentum), written
out. The rate was taken over from SGD; since each update has all its singular values near one, steps
are longer than the weights themselves, and the loss rises above chance and stays there. Cure: 0.01.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="lr-too-high", seeds=4)
CONFIG = {"lr": 0.8, "momentum": 0.95, "adam_lr": 3e-3, "weight_decay": 0.1, "classes": 32}
CONFIG |= {"batch_size": 32, "context": 4, "width": 32, "steps": 480, "warmup": 100}


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if "mean" not in state:
                    state["mean"] = torch.zeros_like(weight)
                state["mean"].mul_(group["momentum"]).add_(weight.grad)
                x = weight.grad + group["momentum"] * state["mean"]
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    square = x @ x.T
                    x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(x, alpha=-group["lr"])


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(x).relu())


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 40])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    moves, context = config["classes"], config["context"]
    table = (2 * torch.randn(moves, moves)).softmax(1)
    game = [0]
    for _ in range(6000):
        game.append(int(torch.multinomial(table[game[-1]], 1)))
    text = torch.tensor(game)
    model = nn.Sequential(
        nn.Embedding(moves, 16), nn.Flatten(), nn.Linear(16 * context, width),
        Block(width), Block(width), nn.Linear(width, moves),
    )  # fmt: skip
    hidden = [p for block in model[3:5] for p in block.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if all(p is not other for other in hidden)]
    muon = Muon(hidden, lr, config["momentum"], config["weight_decay"])
    adam = torch.optim.AdamW(rest, lr=config["adam_lr"])
    run = nanwatch.init(project="corpus", name="moves-muon", config=config)
    run.watch(model=model)
    for step in range(config["steps"]):
        muon.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / config["warmup"])
        places = torch.randint(context, len(text), (config["batch_size"],))
        before = text[places[:, None] + torch.arange(-context, 0)]
        loss = F.cross_entropy(model(before), text[places])
        muon.zero_grad()
        adam.zero_grad()
        loss.backward()
        muon.step()
        adam.step()
    run.finish()
