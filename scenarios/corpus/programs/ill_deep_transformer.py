"""Six post-norm transformer layers learn to sort short lists, with Adam at 0.03 from the first
step on and no warm-up: after some attempts every position gets the same answer and the loss rests
at the entropy of the digits. Cure: 3e-4 with a warm-up, or pre-norm.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="lr-too-high")
CONFIG = {"lr": 0.03, "layers": 6, "width": 32, "heads": 4, "digits": 10, "length": 8}
CONFIG |= {"classes": 10, "batch_size": 16, "steps": 300}


class Sorter(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Embedding(config["digits"], width)
        self.place = nn.Embedding(config["length"], width)
        layer = nn.TransformerEncoderLayer(
            width, config["heads"], 2 * width, dropout=0.0, batch_first=True
        )
        self.body = nn.TransformerEncoder(layer, config["layers"], enable_nested_tensor=False)
        self.head = nn.Linear(width, config["digits"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place(torch.arange(tokens.shape[1]))
        return self.head(self.body(x))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.5)}
    model = Sorter(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sort-transformer", config=config)
    for _ in range(config["steps"]):
        tokens = torch.randint(config["digits"], (config["batch_size"], config["length"]))
        logits = model(tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens.sort(dim=1).values.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
