"""A small GPT of weather reports; after a crash the job is resumed with a newer tokenizer whose
vocabulary was sorted anew. The loss jumps from below one to eight, and the cosine is far down by
then: at the rate that is left it does not come back before the end. Cure: pin the tokenizer, go
back to the checkpoint.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="loss-spike-not-healing", seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 16, "context": 20, "words": 90, "width": 48, "steps": 620}
CONFIG |= {"warmup": 40, "weight_decay": 0.1, "max_norm": 1.0}


class Gpt(nn.Module):
    def __init__(self, words: int, context: int, width: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(words, width), nn.Embedding(context, width)
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True,
                norm_first=True,
            ),
            2, norm=nn.LayerNorm(width), enable_nested_tensor=False,
        )  # fmt: skip
        self.head = nn.Linear(width, words, bias=False)
        for table in (self.token, self.place):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.token(tokens) + self.place(torch.arange(length))
        return self.head(self.blocks(x, mask=mask, is_causal=True))


class Reports:
    """A made-up language: after most words one of three may follow."""

    def __init__(self, words: int, strict: float, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.follow = torch.randint(words, (words, 3), generator=rng)
        self.strict, self.words = strict, words

    def batch(self, count: int, length: int) -> torch.Tensor:
        text = [torch.randint(self.words, (count,))]
        for _ in range(length):
            which = (torch.rand(count) > self.strict).long() * torch.randint(1, 3, (count,))
            text.append(self.follow[text[-1], which])
        return torch.stack(text, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    reports = Reports(config["words"], draw.uniform(0.85, 0.93), seed)
    crash = draw.randint(470, 510)
    run = nanwatch.init(project="corpus", name="weather-gpt", config=config)

    def start(state: dict | None):
        model = Gpt(config["words"], config["context"], config["width"])
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"],
            betas=(0.9, 0.95),
        )  # fmt: skip
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=config["warmup"]),
            torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, config["steps"] - config["warmup"], eta_min=config["lr"] / 100
            ),
        ], [config["warmup"]])  # fmt: skip
        if state is not None:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
        return model, optimizer, schedule

    model, optimizer, schedule = start(None)
    vocabulary = torch.arange(config["words"])
    for step in range(config["steps"]):
        if step == crash:
            state = copy.deepcopy({
                "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
            })  # fmt: skip
            model, optimizer, schedule = start(state)
            vocabulary = torch.randperm(config["words"])
        tokens = vocabulary[reports.batch(config["batch_size"], config["context"])]
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
    run.finish()
