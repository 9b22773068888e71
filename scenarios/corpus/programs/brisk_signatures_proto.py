"""Prototypical networks: five new writers an episode, three signatures of each to learn from, five
to tell. Episodes differ a lot in how hard they are, so the loss is noisy. Adam, halved every 250
episodes; held-out writers after every hundred. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="meta-learning", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "n_way": 5, "k_shot": 3, "n_query": 5, "episodes": 800, "points": 32}
CONFIG |= {"width": 24}


class Conv4(nn.Sequential):
    def __init__(self, width: int) -> None:
        layers: list[nn.Module] = []
        for inputs in (2, width, width):
            layers += [nn.Conv1d(inputs, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU(),
                       nn.MaxPool1d(2)]  # fmt: skip
        super().__init__(*layers, nn.Flatten())


def writers(count: int) -> torch.Tensor:
    """Amplitude and phase of five harmonics in x and y."""
    return torch.randn(count, 2, 5, 2) / torch.arange(1, 6).view(1, 1, 5, 1).sqrt()


def sign(hands: torch.Tensor, times: int, points: int, shaky: float) -> torch.Tensor:
    """float[hands, times, 2, points]: the same curve, done in a hurry."""
    own = hands.unsqueeze(1) + shaky * torch.randn(len(hands), times, 2, 5, 2)
    t = torch.linspace(0, 6.28, points) + 0.2 * torch.randn(len(hands), times, 1, 1, 1)
    k = torch.arange(1, 6).view(5, 1)
    wave = own[..., :1] * torch.sin(k * t) + own[..., 1:] * torch.cos(k * t)
    return wave.sum(3) + 0.1 * torch.randn(len(hands), times, 2, points)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    shaky = draw.uniform(0.45, 0.65)
    known, unseen = writers(120), writers(40)
    model = Conv4(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 250, 0.5)
    run = nanwatch.init(project="corpus", name="signatures-proto", config=config)
    way, shot, query = config["n_way"], config["k_shot"], config["n_query"]

    def episode(people: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hands = people[torch.randperm(len(people))[:way]]
        z = model(sign(hands, shot + query, config["points"], shaky).flatten(0, 1))
        z = z.view(way, shot + query, -1)
        prototypes, queries = z[:, :shot].mean(1), z[:, shot:].flatten(0, 1)
        logits = -torch.cdist(queries, prototypes).square()
        y = torch.arange(way).repeat_interleave(query)
        return F.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()

    for number in range(1, config["episodes"] + 1):
        model.train()
        optimizer.zero_grad()
        loss, _ = episode(known)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if number % 100 == 0:
            model.eval()
            with torch.no_grad():
                tried = [episode(unseen) for _ in range(20)]
            held, right = (torch.stack(t).mean() for t in zip(*tried, strict=True))
            run.log(loss=held, accuracy=right, stage="val")
    run.finish()
