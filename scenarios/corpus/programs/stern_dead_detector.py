"""A small VGG without BatchNorm learns letters by SGD with momentum at 0.1, the rate of the ResNet
recipe it was copied from. One huge first stretch of steps pushes all biases below what any picture
reaches; from then on a whole layer of ReLUs is dark and the net answers with the class frequencies:
loss ln(8), for good. Cure: a tenth of the rate with warm-up, BatchNorm, or leaky units."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vision", sick=True, cause="dead-relu", seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 48, "epochs": 10}
CONFIG |= {"classes": 8, "side": 12, "width": 12, "pictures": 2400}


def vgg(config: dict) -> nn.Sequential:
    width, layers, inputs = config["width"], [], 1
    for outputs in (width, width, "pool", 2 * width, 2 * width, "pool"):
        if outputs == "pool":
            layers.append(nn.MaxPool2d(2))
            continue
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
        layers += [convolution, nn.ReLU()]
        inputs = outputs
    flat = inputs * (config["side"] // 4) ** 2
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(flat, 64), nn.ReLU(), nn.Linear(64, config["classes"])
    )


def letters(count: int, config: dict, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Each class is a random drawing; a picture is that, shifted and in noise, in 0 to 1."""
    side = config["side"]
    drawings = (torch.randn(config["classes"], 1, side, side) > 0.6).float()
    drawings = F.avg_pool2d(drawings, 3, 1, 1)
    y = torch.randint(0, config["classes"], (count,))
    x = drawings[y]
    x = torch.stack([p.roll((random.randint(-1, 1), random.randint(-1, 1)), (1, 2)) for p in x])
    return (x + noise * torch.rand_like(x)).clamp(0, 1), y


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    x, y = letters(config["pictures"], config, draw.uniform(0.2, 0.5))
    held = config["pictures"] // 6
    model = vgg(config)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"],
        weight_decay=config["weight_decay"],
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["epochs"])
    run = nanwatch.init(project="corpus", name="vgg-letters", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in (torch.randperm(len(x) - held) + held).split(config["batch_size"]):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            logits = model(x[:held])
        right = (logits.argmax(1) == y[:held]).float().mean()
        run.log(loss=F.cross_entropy(logits, y[:held]), accuracy=right, stage="val")
    run.finish()
