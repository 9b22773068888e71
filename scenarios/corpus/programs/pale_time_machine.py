"""A character model of an old novel, as in the chapter "RNN from scratch" of the book: states are
carried from one batch to the next (sequential partitioning). The book's cell has tanh; here it was
changed for ReLU since that trains faster elsewhere, and `clip_gradients` was left out as it looked
like a detail. The state is never begun anew and nothing holds it: it grows from batch to batch,
slowly at first. Cure: tanh, clipping, a fresh state now and then.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 2.5, "batch_size": 16, "steps": 1100, "num_steps": 32, "hidden": 48}


def novel(length: int, words: int, draw: random.Random) -> torch.Tensor:
    """Made-up words, frequent and rare ones, each followed by a blank (27 characters)."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    weight = [1 / (2 + k) for k in range(26)]
    book = ["".join(draw.choices(letters, weight, k=draw.randint(2, 7))) for _ in range(words)]
    text = " ".join(draw.choices(book, [1 / (1 + k) for k in range(words)], k=length // 4))
    return torch.tensor([(" " + letters).index(c) for c in text[:length]])


class RNNFromScratch(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.w_xh = nn.Parameter(torch.randn(inputs, hidden) * 0.01)
        self.w_hh = nn.Parameter(torch.randn(hidden, hidden) * 0.01)
        self.b_h = nn.Parameter(torch.zeros(hidden))
        self.w_hq = nn.Parameter(torch.randn(hidden, inputs) * 0.01)
        self.b_q = nn.Parameter(torch.zeros(inputs))

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = []
        for letter in x:
            state = torch.relu(letter @ self.w_xh + state @ self.w_hh + self.b_h)
            outputs.append(state @ self.w_hq + self.b_q)
        return torch.cat(outputs), state


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.2)}
    hidden = draw.choice([40, 48, 64])
    batch, length = config["batch_size"], config["num_steps"]
    text = novel(40000, 300, draw)
    stream = text[: len(text) // batch * batch].view(batch, -1)
    model = RNNFromScratch(27, hidden)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="time-machine", config=config)
    state, at = torch.zeros(batch, hidden), 0
    for _ in range(config["steps"]):
        if at + length + 1 > stream.shape[1]:
            at = 0
        x, y = stream[:, at : at + length].T, stream[:, at + 1 : at + length + 1].T
        at += length
        out, state = model(F.one_hot(x, 27).float(), state.detach())
        loss = F.cross_entropy(out, y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
