"""Neural style transfer: the pixels of an image are what is trained, so that its features come
close to those of a content image and its Gram matrices to those of a style image, with weights of 1
and 1e6 as in the tutorial, here with Adam at 0.02 rather than LBFGS. The net is a fixed one of
random filters. The loss begins in the hundreds or thousands, falls by two orders within a hundred
steps and creeps from there; pixels are clamped to [0, 1] after each step. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="optimisation", sick=False, seeds=3)
CONFIG = {"lr": 0.02, "steps": 500, "size": 32, "style_weight": 1e6, "content_weight": 1.0}


def pictures(size: int, draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """A landscape of three shapes, and a cloth of waves."""
    at = torch.linspace(-1, 1, size)
    y, x = at.view(size, 1), at.view(1, size)
    content = torch.zeros(3, size, size)
    for _ in range(3):
        a, b, r = draw.uniform(-0.6, 0.6), draw.uniform(-0.6, 0.6), draw.uniform(0.2, 0.5)
        inside = torch.sigmoid(30 * (r - ((x - a) ** 2 + (y - b) ** 2).sqrt()))
        content = content * (1 - inside) + torch.rand(3, 1, 1) * inside
    waves = [torch.sin(draw.uniform(5, 15) * x + draw.uniform(5, 15) * y) for _ in range(3)]
    style = 0.5 + 0.4 * torch.stack(waves) * torch.rand(3, 1, 1)
    return content.unsqueeze(0), style.unsqueeze(0)


def gram(x: torch.Tensor) -> torch.Tensor:
    flat = x.flatten(2)
    return flat @ flat.transpose(1, 2) / (x.shape[1] * flat.shape[2])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.5)}
    content, style = pictures(config["size"], draw)
    layers = nn.ModuleList([nn.Conv2d(a, b, 3, 1, 1) for a, b in [(3, 12), (12, 16), (16, 24)]])
    for layer in layers:
        nn.init.orthogonal_(layer.weight, 1.4)
    layers.requires_grad_(False)

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        found, x = [], (x - 0.5) / 0.25
        for layer in layers:
            x = F.relu(layer(x))
            found.append(x)
            x = F.avg_pool2d(x, 2)
        return found

    with torch.no_grad():
        goal = features(content)[-1]
        grams = [gram(one) for one in features(style)]
    image = nn.Parameter(content.clone())
    optimizer = torch.optim.Adam([image], lr=config["lr"])
    run = nanwatch.init(project="corpus", name="style-image", config=config)
    for _ in range(config["steps"]):
        found = features(image)
        style_score = sum(F.mse_loss(gram(a), b) for a, b in zip(found, grams, strict=False))
        content_score = F.mse_loss(found[-1], goal)
        loss = config["style_weight"] * style_score + config["content_weight"] * content_score
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
    run.finish()
