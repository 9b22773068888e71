"""An adaptive filter that cancels an echo, one window at a time by plain SGD: the rate is a
little above what the loudest passages bear. The echo goes down at first; then the taps that
hardly matter grow from one loud passage to the next, over the whole run. Cure: lr x0.5, or a
normalised step.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="adaptive-filter", sick=True, cause="divergence-slow")
CONFIG = {"lr": 0.125, "taps": 24, "hop": 8, "noise": 0.02, "steps": 1400}


def speech(count: int) -> torch.Tensor:
    """Coloured noise whose loudness swells and fades a little."""
    white = torch.randn(count + 12)
    coloured = white.unfold(0, 13, 1) @ (0.8 ** torch.arange(13.0))
    t = torch.arange(count)
    return 0.5 * coloured * (0.8 + 0.1 * torch.sin(t / 400))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.97, 1.05)}
    taps, hop = config["taps"], config["hop"]
    far = speech(config["steps"] * hop + taps)
    far = 0.7 * far / far.std()
    room = torch.randn(taps) * 0.85 ** torch.arange(taps)
    windows = far.unfold(0, taps, 1)
    microphone = windows @ room + config["noise"] * torch.randn(len(windows))
    model = nn.Linear(taps, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="echo", config=config)
    for step in range(config["steps"]):
        now = slice(step * hop, (step + 1) * hop)
        loss = (model(windows[now])[:, 0] - microphone[now]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not math.isfinite(loss.item()):
            break
    run.finish()
