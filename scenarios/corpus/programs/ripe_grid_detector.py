"""A one-stage detector of traffic signs: each cell of a grid says whether there is one, where, how
large and of which kind. Three losses of very different size are added up, gradients of the first
steps are large and clipped, a warm-up comes first, then a cosine; an average of the weights is
evaluated. Nothing is wrong."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="detection", sick=False, seeds=3)
CONFIG = {"lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 8, "steps": 600}
CONFIG |= {"warmup": 60, "max_norm": 10.0, "size": 24, "kinds": 3, "ema": 0.99, "width": 12}


class Detector(nn.Module):
    def __init__(self, width: int, kinds: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(outputs), nn.SiLU()]

        self.body = nn.Sequential(
            *block(3, width, 1), *block(width, 2 * width, 2), *block(2 * width, 4 * width, 2)
        )
        self.head = nn.Conv2d(4 * width, 5 + kinds, 1)
        nn.init.constant_(self.head.bias[:1], -3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)).permute(0, 2, 3, 1)


def signs(count: int, size: int, colours: torch.Tensor, noise: float):
    """Pictures with one or two squares each; (picture, objectness, box, kind) by cell."""
    picture = noise * torch.randn(count, 3, size, size)
    there, kind = torch.zeros(count, 6, 6), torch.zeros(count, 6, 6, dtype=torch.long)
    box = torch.zeros(count, 6, 6, 4)
    for n in range(count):
        for _ in range(random.randint(1, 2)):
            wide, high = random.uniform(3, 8), random.uniform(3, 8)
            x, y = (
                random.uniform(wide / 2, size - wide / 2),
                random.uniform(high / 2, size - high / 2),
            )
            k = random.randrange(len(colours))
            left, top = round(x - wide / 2), round(y - high / 2)
            picture[n, :, top : round(y + high / 2), left : round(x + wide / 2)] += colours[k].view(
                3, 1, 1
            )
            row, column = int(y / 4), int(x / 4)
            there[n, row, column], kind[n, row, column] = 1, k
            box[n, row, column] = torch.tensor([x / 4 - column, y / 4 - row, wide / 6, high / 6])
    return picture, there, box, kind


def loss_of(model: nn.Module, batch) -> torch.Tensor:
    picture, there, box, kind = batch
    out = model(picture)
    mask = there > 0
    objectness = F.binary_cross_entropy_with_logits(out[..., 0], there, reduction="sum")
    place = (out[mask][:, 1:3].sigmoid() - box[mask][:, :2]).square().sum()
    scale = (out[mask][:, 3:5] - box[mask][:, 2:].log()).square().sum()
    which = F.cross_entropy(out[mask][:, 5:], kind[mask], reduction="sum")
    return (objectness + 5 * (place + scale) + which) / len(picture)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    colours, noise = torch.randn(config["kinds"], 3), draw.uniform(0.2, 0.4)
    model = Detector(config["width"], config["kinds"])
    average = copy.deepcopy(model)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"],
        weight_decay=config["weight_decay"], nesterov=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [
        torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=config["warmup"]),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"] - config["warmup"]),
    ], [config["warmup"]])  # fmt: skip
    held = signs(48, config["size"], colours, noise)
    run = nanwatch.init(project="corpus", name="traffic-signs", config=config)
    for step in range(config["steps"]):
        loss = loss_of(model, signs(config["batch_size"], config["size"], colours, noise))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for slow, fast in zip(
                average.state_dict().values(), model.state_dict().values(), strict=True
            ):
                if slow.is_floating_point():
                    slow.lerp_(fast, 1 - config["ema"])
                else:
                    slow.copy_(fast)
        if step % 100 == 99:
            average.eval()
            with torch.no_grad():
                run.log(loss=loss_of(average, held), stage="val")
    run.finish()
