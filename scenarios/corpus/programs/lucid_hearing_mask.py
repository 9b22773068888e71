"""Speech in noise: a GRU foretells a mask for each band and frame, trained by the negative ratio of
signal to distortion in decibels, so that the loss goes below zero. A curriculum makes the noise
louder in four stages; at each the loss goes up, since the task is harder. Adam, clipping at 5 as in
every such recipe. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum-speech", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 24, "steps_per_stage": 110, "ratios": (12.0, 6.0, 2.0, -2.0)}
CONFIG |= {"bands": 20, "frames": 24, "hidden": 40, "max_norm": 5.0}


class Mask(nn.Module):
    def __init__(self, bands: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(bands)
        self.gru = nn.GRU(bands, hidden, batch_first=True)
        self.out = nn.Linear(hidden, bands)

    def forward(self, mixed: torch.Tensor) -> torch.Tensor:
        return mixed * self.out(self.gru(self.norm((mixed + 1e-4).log()))[0]).sigmoid()


def syllables(count: int, config: dict) -> torch.Tensor:
    """Harmonics of a pitch that glides, within syllables with pauses between."""
    t = torch.linspace(0, 1, config["frames"]).view(1, -1, 1)
    band = torch.arange(config["bands"]).view(1, 1, -1)
    pitch = 3 + 2 * torch.rand(count, 1, 1) + torch.randn(count, 1, 1) * t
    teeth = torch.cos(6.283 * band / pitch).clamp(min=0).square()
    voiced = torch.sigmoid(8 * torch.sin(6.283 * (2 + torch.rand(count, 1, 1)) * t + 6.283 * band
                                         / 80 + 6.283 * torch.rand(count, 1, 1)))  # fmt: skip
    return teeth * voiced * torch.exp(-band / 12) * (0.5 + torch.rand(count, 1, 1))


def distortion(guess: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Negative ratio of signal to distortion, decibels."""
    miss = (guess - clean).square().sum((1, 2))
    return -10 * torch.log10(clean.square().sum((1, 2)) / (miss + 1e-8) + 1e-8).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    model = Mask(config["bands"], config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    babble = 0.3 + torch.rand(config["bands"])

    def mix(count: int, ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
        clean = syllables(count, config)
        noise = babble * torch.randn_like(clean).abs()
        scale = clean.square().mean((1, 2), True) / noise.square().mean((1, 2), True)
        return clean + (scale * 10 ** (-ratio / 10)).sqrt() * noise, clean

    held = mix(128, 2.0)
    run = nanwatch.init(project="corpus", name="hearing-mask", config=config)
    for ratio in config["ratios"]:
        run.mark("task", f"{ratio} dB")
        for step in range(config["steps_per_stage"]):
            mixed, clean = mix(config["batch_size"], ratio + draw.uniform(-1, 1))
            loss = distortion(model(mixed), clean)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
            optimizer.step()
            if step % 55 == 54:
                with torch.no_grad():
                    run.log(distortion=distortion(model(held[0]), held[1]), stage="val")
    run.finish()
