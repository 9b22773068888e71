"""A GRU encoder and decoder with attention spell words backwards: teacher forcing, Adam with the
inverse square root schedule and warm-up, the gradient norm clipped at 1 (often), lengths that vary
by batch."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="seq2seq", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "warmup": 80, "batch_size": 32, "steps": 900, "letters": 14, "hidden": 48}
CONFIG |= {"max_norm": 1.0}


class Speller(nn.Module):
    def __init__(self, letters: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(letters + 1, hidden)
        self.encoder = nn.GRU(hidden, hidden // 2, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(hidden, hidden, batch_first=True)
        self.query = nn.Linear(hidden, hidden)
        self.out = nn.Linear(2 * hidden, letters)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        memory, last = self.encoder(self.embed(source))
        start = torch.cat([last[0], last[1]], 1)[None].contiguous()
        states, _ = self.decoder(self.embed(target), start)
        scores = self.query(states) @ memory.transpose(1, 2) / memory.shape[2] ** 0.5
        return self.out(torch.cat([states, scores.softmax(2) @ memory], 2))


def words(config: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    length, letters = random.randint(3, 9), config["letters"]
    source = torch.randint(0, letters, (config["batch_size"], length))
    wanted = source.flip(1)
    begin = torch.full((len(source), 1), letters)
    return source, torch.cat([begin, wanted[:, :-1]], 1), wanted


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    model = Speller(config["letters"], config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], betas=(0.9, 0.98))
    warm = config["warmup"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (warm / (step + 1)) ** 0.5)
    )
    run = nanwatch.init(project="corpus", name="speller", config=config)
    for step in range(config["steps"]):
        source, before, wanted = words(config)
        logits = model(source, before)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            run.log(exact=(logits.argmax(2) == wanted).all(1).float().mean())
    run.finish()
