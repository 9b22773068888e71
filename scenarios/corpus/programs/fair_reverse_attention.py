"""A recurrent decoder with attention puts lists into reverse; teacher forcing fades from
always to a half, so that the decoder has to live with its own mistakes ever more often."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "batch_size": 32, "symbols": 10, "longest": 4, "max_norm": 1.0,
          "forcing_until": 200, "forcing_least": 0.5, "steps": 600}  # fmt: skip


class Reverser(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["symbols"] + 1, hidden)
        self.place = nn.Parameter(0.3 * torch.randn(CONFIG["longest"], hidden))
        self.encoder = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh())
        self.cell = nn.GRUCell(2 * hidden, hidden)
        self.head = nn.Linear(2 * hidden, CONFIG["symbols"])

    def forward(self, tokens: torch.Tensor, wanted: torch.Tensor, forcing: float) -> torch.Tensor:
        memory = self.encoder(self.embed(tokens) + self.place[: tokens.shape[1]])
        state = seen = memory[:, -1]
        given, logits = self.embed.weight[-1].expand(len(tokens), -1), []
        for place in range(wanted.shape[1]):
            state = self.cell(torch.cat([given, seen], dim=1), state)
            weights = torch.bmm(memory, state[:, :, None]).softmax(1)
            seen = torch.bmm(weights.mT, memory)[:, 0]
            logits.append(self.head(torch.cat([state, seen], dim=1)))
            own = torch.rand(len(tokens)) >= forcing
            given = self.embed(torch.where(own, logits[-1].argmax(1), wanted[:, place]))
        return torch.stack(logits, dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="reverse-attention", config=config)
    model = Reverser(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, CONFIG["steps"])
    for step in range(CONFIG["steps"]):
        tokens = torch.randint(0, CONFIG["symbols"], (CONFIG["batch_size"], draw.randint(3, 4)))
        passed = max(0, step - CONFIG["forcing_until"]) / 300
        forcing = max(CONFIG["forcing_least"], 1 - passed)
        wanted = tokens.flip(1)
        logits = model(tokens, wanted, forcing)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            tokens = torch.randint(0, CONFIG["symbols"], (200, CONFIG["longest"]))
            with torch.no_grad():
                right = model(tokens, tokens.flip(1), 0.0).argmax(2) == tokens.flip(1)
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
