"""A wake word for a microcontroller: a one-dimensional convolutional net is trained in float for
some epochs, then fine-tuned with fake quantisation to eight bits (weights per channel, activations
by a moving range), straight-through gradients, at a tenth of the rate. One positive in six. Nothing
is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="quantisation", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "qat_lr": 3e-4, "epochs": 8, "qat_epochs": 6, "batch_size": 32, "width": 16}


class Observer(nn.Module):
    """Fake quantisation of activations by a moving range."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.tensor(0.0))
        self.enabled = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            seen = x.detach().abs().max()
            self.largest.copy_(seen if self.largest == 0 else 0.95 * self.largest + 0.05 * seen)
        if not self.enabled:
            return x
        scale = self.largest / 127
        return torch.fake_quantize_per_tensor_affine(x, float(scale), 0, -128, 127)


class QConv(nn.Conv1d):
    quantised = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        if self.quantised:
            scale = weight.detach().abs().amax((1, 2), keepdim=True).clamp(min=1e-6) / 127
            rounded = (weight / scale).round() * scale
            weight = weight + (rounded - weight).detach()
        return F.conv1d(x, weight, self.bias, self.stride, self.padding)


def clips(count: int, word: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight mel bands over 40 frames; the word is a pattern of 14 frames somewhere."""
    y = (torch.rand(count) < 1 / 6).float()
    x = noise * torch.randn(count, 8, 40)
    for row in range(count):
        at, loud = random.randint(0, 26), random.uniform(0.7, 1.3)
        if y[row]:
            x[row, :, at : at + 14] += loud * word
        else:
            x[row, :, at : at + 14] += loud * word[:, torch.randperm(14)]
    return x, y


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    config["width"] = draw.choice([12, 16, 20])
    width, noise = config["width"], draw.uniform(1.1, 1.4)
    word = F.interpolate(torch.randn(1, 8, 7), 14, mode="linear").squeeze(0) * 1.5
    x, y = clips(1600, word, noise)
    x_held, y_held = clips(400, word, noise)
    model = nn.Sequential(
        QConv(8, width, 5, 2, 2), nn.BatchNorm1d(width), nn.ReLU(), Observer(),
        QConv(width, width, 5, 2, 2), nn.BatchNorm1d(width), nn.ReLU(), Observer(),
        QConv(width, width, 3, 1, 1), nn.ReLU(), Observer(), nn.AdaptiveMaxPool1d(1), nn.Flatten(),
        nn.Linear(width, 1), nn.Flatten(0),
    )  # fmt: skip
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
    run = nanwatch.init(project="corpus", name="wakeword-int8", config=config)

    def epochs(count: int, lr: float) -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
        for _ in range(count):
            model.train()
            for rows in torch.randperm(len(x)).split(config["batch_size"]):
                optimizer.zero_grad()
                loss = criterion(model(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                run.log(loss=criterion(model(x_held), y_held), stage="val")

    epochs(config["epochs"], config["lr"])
    run.mark("task", "quantisation-aware", lr=config["qat_lr"])
    for module in model:
        if isinstance(module, QConv):
            module.quantised = True
        if isinstance(module, Observer):
            module.enabled = True
    epochs(config["qat_epochs"], config["qat_lr"])
    run.finish()
