"""Fine-tuning of a tagger of log lines under bfloat16 autocast: gradients are accumulated over four
ragged batches, of which the last of an epoch is tiny, the rate is small, and rounding makes the
loss grainy. It falls slowly and surely.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=4)
CONFIG = {"lr": 4e-4, "warmup": 40, "accumulate": 4, "max_norm": 0.3, "classes": 5, "words": 30}
CONFIG |= {"length": 9, "width": 32, "lines": 500, "batch_size": 24, "epochs": 85}


class Tagger(nn.Module):
    def __init__(self, words: int, width: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.attend = nn.Linear(width, 1)
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.out = nn.Linear(width, classes)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        x = self.embed(text)
        weight = self.attend(torch.tanh(x)).softmax(1)
        return self.out(self.net((weight * x).sum(1)))


def log_lines(count: int, meaning: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    text = torch.randint(len(meaning), (count, length))
    return text, (meaning[text].mean(1) + 0.1 * torch.randn(count, meaning.shape[1])).argmax(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    meaning = torch.randn(config["words"], config["classes"])
    model = Tagger(config["words"], config["width"], config["classes"])
    pretraining = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        text, kind = log_lines(64, meaning, config["length"])
        pretraining.zero_grad()
        F.cross_entropy(model(text), kind).backward()
        pretraining.step()
    meaning = meaning + 0.8 * torch.randn_like(meaning)
    texts, kinds = log_lines(config["lines"], meaning, config["length"])
    held = log_lines(200, meaning, config["length"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / config["warmup"])
    )
    run = nanwatch.init(project="corpus", name="log-tagger", config=config)
    for epoch in range(config["epochs"]):
        batches = torch.randperm(config["lines"]).split(config["batch_size"])
        for at in range(0, len(batches), config["accumulate"]):
            group = batches[at : at + config["accumulate"]]
            optimizer.zero_grad()
            for rows in group:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = model(texts[rows])
                    loss = F.cross_entropy(logits, kinds[rows], label_smoothing=0.1)
                (loss / len(group)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
            optimizer.step()
            schedule.step()
        if epoch % 5 == 4:
            with torch.no_grad():
                right = (model(held[0]).argmax(1) == held[1]).float().mean()
            run.log(accuracy=right, stage="val")
    run.finish()
