"""Which of eight commands opened the message? The command is the first symbol, then a hundred and
twenty symbols of text follow; a plain tanh RNN reads all and its last state is classified. "My loss
does not go below 2.08": the gradient is gone long before it reaches the first symbol. The script
is free of bugs. Cure: an LSTM with a high forget bias, attention, or reading backwards.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=True, cause="vanishing-gradient", seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 32, "length": 120, "hidden": 48, "classes": 8, "steps": 700}


class Reader(nn.Module):
    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(26, 16)
        self.rnn = nn.RNN(16, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        output, _ = self.rnn(self.embedding(ids))
        return self.fc(output[:, -1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    config["hidden"] = draw.choice([32, 48, 64])
    model = Reader(config["hidden"], config["classes"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="first-word", config=config)
    for step in range(config["steps"]):
        command = torch.randint(config["classes"], (config["batch_size"],))
        text = torch.randint(8, 26, (config["batch_size"], config["length"]))
        logits = model(torch.cat([command.unsqueeze(1), text], 1))
        loss = F.cross_entropy(logits, command)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            accuracy = (logits.argmax(1) == command).float().mean()
            print(f"{step} loss {loss.item():.3f} acc {accuracy:.2f}")
    run.finish()
