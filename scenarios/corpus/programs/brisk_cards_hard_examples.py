"""Card fraud, two in a hundred: a residual MLP on oversampled batches, only the hardest half of
each batch counts (online hard example mining), after two thirds stochastic weight averaging with a
constant rate, and at the end the temperature is calibrated by LBFGS on held-out data. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="imbalanced-classification", sick=False, seeds=3)
CONFIG = {"lr": 0.03, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 64, "epochs": 15}
CONFIG |= {"swa_start": 10, "swa_lr": 0.01, "keep": 0.5, "width": 48, "features": 16}


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(width, width), nn.BatchNorm1d(width),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


def payments(count: int, ways: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Three schemes of fraud hide among log-normal payments."""
    y = (torch.rand(count) < 0.02).float()
    x = torch.randn(count, ways.shape[1])
    scheme = torch.randint(len(ways), (count,))
    x = x + y.unsqueeze(1) * (1.1 * ways[scheme] + noise * torch.randn_like(x))
    x[:, 0] = x[:, 0].abs().pow(1.5) * x[:, 0].sign()
    return x, y


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    ways, noise = torch.randn(3, config["features"]), draw.uniform(0.3, 0.8)
    x, y = payments(6000, ways, noise)
    x_val, y_val = payments(3000, ways, noise)
    weights = torch.where(y == 1, 0.25 / y.mean(), 0.75 / (1 - y.mean()))
    sampler = WeightedRandomSampler(weights.tolist(), 3200)
    loader = DataLoader(TensorDataset(x, y), config["batch_size"], sampler=sampler)
    width = config["width"]
    model = nn.Sequential(
        nn.BatchNorm1d(config["features"]), nn.Linear(config["features"], width), Residual(width),
        Residual(width), nn.Linear(width, 1), nn.Flatten(0),
    )  # fmt: skip
    optimizer = torch.optim.SGD(
        model.parameters(), config["lr"], config["momentum"], weight_decay=config["weight_decay"]
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["epochs"])
    swa_model, swa_scheduler = AveragedModel(model), SWALR(optimizer, config["swa_lr"], 2)
    run = nanwatch.init(project="corpus", name="cards-ohem-swa", config=config)
    for epoch in range(config["epochs"]):
        model.train()
        for inputs, targets in loader:
            each = F.binary_cross_entropy_with_logits(model(inputs), targets, reduction="none")
            loss = each.topk(int(config["keep"] * len(each))).values.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch >= config["swa_start"]:
            swa_model.update_parameters(model)
            swa_scheduler.step()
        else:
            scheduler.step()
        model.eval()
        with torch.no_grad():
            out = model(x_val)
        caught = ((out > 0) & (y_val == 1)).sum() / y_val.sum()
        run.log(loss=F.binary_cross_entropy_with_logits(out, y_val), recall=caught, stage="val")
    update_bn(loader, swa_model)
    swa_model.eval()
    with torch.no_grad():
        logits = swa_model(x_val)
    scale, shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
    lbfgs = torch.optim.LBFGS([scale, shift], lr=0.1, max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        loss = F.binary_cross_entropy_with_logits(logits * scale + shift, y_val)
        loss.backward()
        return loss

    run.mark("task", "calibration")
    for _ in range(3):
        lbfgs.step(closure)
    run.finish()
