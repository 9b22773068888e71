"""A class-conditional diffusion model of small glyphs with v-prediction, min-SNR weights, a tenth
of the labels dropped, and an EMA of its weights for the evaluation."""

from __future__ import annotations

import copy
import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "warmup": 40, "batch_size": 48, "glyphs": 5, "drop_label": 0.1,
          "snr_gamma": 5.0, "ema": 0.99, "max_norm": 1.0, "steps": 800}  # fmt: skip


class Glyphs:
    """Five random glyphs of 6x6, shifted and noisy, in [-1, 1]."""

    def __init__(self) -> None:
        self.shapes = (torch.rand(CONFIG["glyphs"], 6, 6) > 0.6).float()

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.randint(0, CONFIG["glyphs"], (count,))
        x = torch.roll(self.shapes[kind], random.randrange(3), dims=2)
        return (2 * x - 1).flatten(1) + 0.1 * torch.randn(count, 36), kind


class Denoiser(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.label = nn.Embedding(CONFIG["glyphs"] + 1, 16)
        self.time = nn.Linear(16, 16)
        self.enter = nn.Linear(36, width)
        self.films = nn.ModuleList(nn.Linear(16, 2 * width) for _ in range(2))
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.leave = nn.Linear(width, 36)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: torch.Tensor, t: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        waves = t[:, None] * math.pi * 2.0 ** torch.arange(8)
        about = self.time(torch.cat([waves.sin(), waves.cos()], 1)) + self.label(kind)
        h = self.enter(x)
        for film, block in zip(self.films, self.blocks, strict=True):
            scale, shift = film(torch.nn.functional.silu(about)).chunk(2, dim=1)
            h = h + torch.nn.functional.silu(block(h) * (1 + scale) + shift)
        return self.leave(h)


def v_loss(model: nn.Module, x: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
    t = torch.rand(len(x)).clamp(0.01, 0.99)
    alpha, sigma = torch.cos(t * math.pi / 2)[:, None], torch.sin(t * math.pi / 2)[:, None]
    noise = torch.randn_like(x)
    made = model(alpha * x + sigma * noise, t, kind)
    snr = (alpha / sigma).square()
    weight = snr.clamp(max=CONFIG["snr_gamma"]) / (snr + 1)
    return (weight * (made - (alpha * noise - sigma * x)).square()).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    lr, width = CONFIG["lr"] * random.uniform(0.7, 1.4), random.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="vpred-glyphs", config=config)
    glyphs, model = Glyphs(), Denoiser(width)
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, 1.0, CONFIG["warmup"])
    for step in range(CONFIG["steps"]):
        x, kind = glyphs.sample(CONFIG["batch_size"])
        dropped = torch.rand(len(kind)) < CONFIG["drop_label"]
        loss = v_loss(model, x, torch.where(dropped, CONFIG["glyphs"], kind))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - CONFIG["ema"])
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=v_loss(ema, *glyphs.sample(400)), stage="val")
    run.finish()
