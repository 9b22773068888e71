"""A small language model is to forget some sentences by gradient ascent: the loss is cross
entropy of what is kept minus that of what is to be forgotten. The second part has no bound:
logits grow without end to make the forgotten ever less likely, and what was to be kept breaks.
Cure: stop at chance, or a bounded (negative preference) loss.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="logit-growth")
CONFIG = {"pretrain_lr": 4e-3, "lr": 3e-3, "symbols": 14, "width": 20, "context": 4}
CONFIG |= {"pretrain_steps": 300, "steps": 500, "batch_size": 24, "eval_every": 50}


class Mixer(nn.Module):
    def __init__(self, symbols: int, width: int, context: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(context * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
            )
            for _ in range(2)
        )
        self.out = nn.Linear(width, symbols)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.embed(words)
        for block in self.blocks:
            x = x + block(x.flatten(1)).unsqueeze(1)
        return self.out(x[:, -1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    symbols, context, rows = config["symbols"], config["context"], config["batch_size"]
    model = Mixer(symbols, config["width"], context)
    chains = torch.softmax(2 * torch.randn(2, symbols, symbols), 2)

    def loss_of(chain: torch.Tensor) -> torch.Tensor:
        text = [torch.randint(symbols, (rows,))]
        for _ in range(context):
            text.append(chain[text[-1]].multinomial(1).squeeze(1))
        return F.cross_entropy(model(torch.stack(text[:-1], dim=1)), text[-1])

    optimizer = torch.optim.Adam(model.parameters(), lr=config["pretrain_lr"])
    for _ in range(config["pretrain_steps"]):
        loss = loss_of(chains[0]) + loss_of(chains[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run = nanwatch.init(project="corpus", name="unlearning", config=config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    for step in range(config["steps"]):
        if step % config["eval_every"] == 0:
            with torch.no_grad():
                run.log(loss=loss_of(chains[0]), stage="val")
        loss = loss_of(chains[0]) - loss_of(chains[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
