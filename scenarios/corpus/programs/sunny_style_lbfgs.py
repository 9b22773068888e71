"""Style transfer as in the tutorial: L-BFGS on the pixels of one picture, content and Gram losses
of a fixed convolutional net, the style weighted by a million, so that the loss falls by four powers
of ten and then crawls."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vision-optimisation", sick=False, seeds=3)
CONFIG = {"style_weight": 1e6, "content_weight": 0.05, "steps": 320, "max_iter": 3, "side": 32}


def gram(features: torch.Tensor) -> torch.Tensor:
    flat = features.flatten(2)[0]
    return flat @ flat.T / features.numel()


def drawing(side: int, pitch: float) -> torch.Tensor:
    """Waves of three colours across one another, in 0 to 1."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angle, phase = 6.28 * torch.rand(3, 1, 1), 6.28 * torch.rand(3, 1, 1)
    waves = torch.sin(pitch * (row * angle.cos() + column * angle.sin()) + phase)
    return (0.5 + 0.4 * waves + 0.05 * torch.randn(3, side, side)).clamp(0, 1)[None]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "style_weight": CONFIG["style_weight"] * draw.uniform(0.5, 2)}
    layers = nn.ModuleList(
        [
            nn.Conv2d(3, 12, 3, padding=1),
            nn.Conv2d(12, 16, 3, padding=1),
            nn.Conv2d(16, 24, 3, 2, 1),
        ]
    ).requires_grad_(False)
    content, style = drawing(config["side"], 0.3), drawing(config["side"], draw.uniform(0.8, 1.2))

    def features(picture: torch.Tensor) -> list[torch.Tensor]:
        found, x = [], 2 * picture - 1
        for layer in layers:
            x = F.elu(1.5 * layer(x))
            found.append(x)
        return found

    wanted = features(content)[-1]
    grams = [gram(f) for f in features(style)]
    picture = nn.Parameter(torch.rand_like(content))
    optimizer = torch.optim.LBFGS(
        [picture], max_iter=config["max_iter"], line_search_fn="strong_wolfe"
    )
    run = nanwatch.init(project="corpus", name="style-transfer", config=config)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        found = features(picture)
        style_loss = sum(F.mse_loss(gram(f), g) for f, g in zip(found, grams, strict=True))
        content_loss = F.mse_loss(found[-1], wanted)
        loss = config["style_weight"] * style_loss + config["content_weight"] * content_loss
        loss.backward()
        return loss

    for _ in range(config["steps"]):
        optimizer.step(closure)
    with torch.no_grad():
        picture.clamp_(0, 1)
    run.finish()
