"""Heights of gliders are forecast by a GRU over long flights with truncated backpropagation: 30
samples at a time, the state carried on and detached, reset at a new flight (where the loss jumps),
Adam, clipping at 1 that bites now and then. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 16, "chunk": 30, "chunks": 12, "flights": 40, "hidden": 32}
CONFIG |= {"max_norm": 1.0}


class Forecaster(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(2, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None):
        seen, state = self.gru(x, state)
        return self.head(seen).squeeze(2), state


def flights(count: int, length: int, noise: float) -> torch.Tensor:
    """[count, length, 2]: climb of the glider and its turn; thermals come and go."""
    climb, turn, thermal, rows = torch.zeros(count), torch.rand(count), torch.zeros(count), []
    for _ in range(length):
        begin = torch.rand(count) < 0.05
        thermal = torch.where(begin, 1.5 * torch.randn(count), 0.95 * thermal)
        climb = 0.8 * climb + 0.2 * (thermal * torch.cos(turn)) + noise * torch.randn(count)
        turn = turn + 0.3
        rows.append(torch.stack([climb, turn.sin()], 1))
    return torch.stack(rows, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    noise, chunk = draw.uniform(0.03, 0.08), config["chunk"]
    model = Forecaster(config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    length = chunk * config["chunks"] + 1
    held = flights(32, length, noise)
    run = nanwatch.init(project="corpus", name="gliders", config=config)
    for flight in range(config["flights"]):
        data, state = flights(config["batch_size"], length, noise), None
        for begin in range(0, length - 1, chunk):
            x, y = data[:, begin : begin + chunk], data[:, begin + 1 : begin + chunk + 1, 0]
            out, state = model(x, state)
            state = state.detach()
            loss = F.mse_loss(out, y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
            optimizer.step()
        if flight % 5 == 4:
            with torch.no_grad():
                out, _ = model(held[:, :-1], None)
                run.log(loss=F.mse_loss(out, held[:, 1:, 0]), stage="val")
    run.finish()
