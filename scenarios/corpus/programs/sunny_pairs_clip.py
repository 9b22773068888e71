"""Descriptions and spectra of minerals are brought together as in CLIP: symmetric cross-entropy, a
learned temperature clamped at 100, AdamW without decay on norms and biases, warm-up and cosine."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=False, seeds=3)
CONFIG = {
    "lr": 2e-3,
    "weight_decay": 0.1,
    "warmup": 60,
    "batch_size": 48,
    "steps": 800,
    "width": 64,
}
CONFIG |= {"embedding": 24, "bands": 40, "words": 80}


class TwoTowers(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, embedding = config["width"], config["embedding"]
        self.spectrum = nn.Sequential(
            nn.Linear(config["bands"], width), nn.LayerNorm(width), nn.GELU(),
            nn.Linear(width, embedding),
        )  # fmt: skip
        self.words = nn.EmbeddingBag(config["words"], width, mode="mean")
        self.text = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Linear(width, embedding))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, spectra: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        a = F.normalize(self.spectrum(spectra), dim=1)
        b = F.normalize(self.text(self.words(words)), dim=1)
        return self.log_scale.exp() * a @ b.T


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    noise, mixing = draw.uniform(0.3, 0.6), torch.randn(8, config["bands"]) / 3
    meaning = 1.5 * torch.randn(8, config["words"])

    def minerals(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.randn(count, 8)
        spectra = torch.tanh(kind @ mixing) + noise * torch.randn(count, config["bands"])
        return spectra, torch.multinomial((kind @ meaning).softmax(1), 12, replacement=True)

    model = TwoTowers(config)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config["weight_decay"]},
         {"params": others, "weight_decay": 0.0}], lr=config["lr"], betas=(0.9, 0.98),
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=config["warmup"]),
         torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"] - config["warmup"])],
        [config["warmup"]],
    )  # fmt: skip
    test, diagonal = minerals(200), torch.arange(config["batch_size"])
    run = nanwatch.init(project="corpus", name="minerals-clip", config=config)
    for step in range(config["steps"]):
        logits = model(*minerals(config["batch_size"]))
        loss = (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.log_scale.clamp_(max=math.log(100))
            if step % 100 == 99:
                right = model(*test).argmax(1) == torch.arange(200)
                run.log(recall=right.float().mean(), stage="val")
    run.finish()
