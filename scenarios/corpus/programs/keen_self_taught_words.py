"""Self-distillation on short sounds (as in data2vec): a student fills masked frames with what a
teacher, a moving average that slows down from 0.9 to 0.999, makes of the whole sound, after a
LayerNorm. The loss rises again and again while the teacher gets richer."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="self-supervised", sick=False, seeds=4)
CONFIG = {"lr": 2e-3, "ema_from": 0.9, "ema_to": 0.999, "mask": 0.4, "batch_size": 24}
CONFIG |= {"steps": 600, "frames": 16, "bands": 6, "width": 32, "max_norm": 1.0}


class Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(CONFIG["bands"], width)
        self.blank = nn.Parameter(torch.zeros(width))
        self.mix = nn.Sequential(
            nn.Conv1d(width, width, 5, padding=2), nn.GELU(), nn.Conv1d(width, width, 5, padding=2)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        tokens = self.embed(x)
        if mask is not None:
            tokens = torch.where(mask[..., None], self.blank, tokens)
        return tokens + self.mix(tokens.transpose(1, 2)).transpose(1, 2)


def sounds(rows: int, noise: float) -> torch.Tensor:
    """Glides through the bands."""
    begin, slope = 5 * torch.rand(rows, 1, 1), 0.3 * torch.randn(rows, 1, 1)
    at = begin + slope * torch.arange(CONFIG["frames"]).view(1, -1, 1)
    x = torch.exp(-((torch.arange(CONFIG["bands"]) - at % CONFIG["bands"]) ** 2))
    return 2 * x + noise * torch.randn_like(x)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.1, 0.25)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    width = CONFIG["width"]
    student, head = Encoder(width), nn.Linear(width, width)
    teacher = copy.deepcopy(student).requires_grad_(False)
    net = nn.ModuleList([student, head])
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="glides-data2vec", config=config)
    run.watch(student=net)
    for step in range(CONFIG["steps"]):
        x = sounds(CONFIG["batch_size"], noise)
        mask = torch.rand(x.shape[:2]) < CONFIG["mask"]
        with torch.no_grad():
            wanted = F.layer_norm(teacher(x), (width,))
        loss = F.smooth_l1_loss(head(student(x, mask))[mask], wanted[mask])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CONFIG["max_norm"])
        optimizer.step()
        keep = CONFIG["ema_from"] + (CONFIG["ema_to"] - CONFIG["ema_from"]) * step / 600
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
    run.finish()
