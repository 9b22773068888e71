"""Hammer prices at auctions, as a Kaggle notebook: a few numbers, embeddings of maker and category,
log of the price as target (prices have a long tail), Huber loss, Adam with OneCycle, dropout, and
the best held-out epoch kept. Nothing is wrong."""

from __future__ import annotations

import copy
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="tabular", sick=False, seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 64, "epochs": 15, "dropout": 0.1, "makers": 80, "kinds": 12}


class TabularModel(nn.Module):
    def __init__(self, sizes: list[tuple[int, int]], numbers: int, dropout: float) -> None:
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(n, d) for n, d in sizes])
        width = sum(d for _, d in sizes) + numbers
        self.bn = nn.BatchNorm1d(numbers)
        self.layers = nn.Sequential(
            nn.Linear(width, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(dropout),
            nn.Linear(64, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Dropout(dropout), nn.Linear(32, 1),
        )  # fmt: skip

    def forward(self, cats: torch.Tensor, nums: torch.Tensor) -> torch.Tensor:
        parts = [e(cats[:, i]) for i, e in enumerate(self.embeds)]
        return self.layers(torch.cat([*parts, self.bn(nums)], 1)).squeeze(1)


def lots(count: int, makers: int, kinds: int, noise: float):
    """(maker, kind), (age, size, condition, bidders), price in euros with a heavy tail."""
    fame = torch.randn(makers)
    worth = torch.randn(kinds)
    maker = (torch.rand(count).pow(2) * makers).long()
    kind = torch.randint(kinds, (count,))
    age, size = 200 * torch.rand(count), torch.exp(0.5 * torch.randn(count)) * 40
    condition, bidders = torch.randint(1, 6, (count,)).float(), torch.poisson(4 * torch.ones(count))
    log_price = 5 + fame[maker] + 0.7 * worth[kind] + 0.004 * age + 0.3 * (size / 40).log()
    log_price = log_price + 0.15 * condition + 0.08 * bidders
    tail = torch.distributions.StudentT(2.5).sample((count,))
    price = torch.exp(log_price + noise * tail)
    return torch.stack([maker, kind], 1), torch.stack([age, size, condition, bidders], 1), price


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    cats, nums, price = lots(5000, config["makers"], config["kinds"], draw.uniform(0.2, 0.4))
    y = torch.log1p(price)
    y_mean = y[:4000].mean()
    train_dl = DataLoader(
        TensorDataset(cats[:4000], nums[:4000], y[:4000]), config["batch_size"], shuffle=True
    )
    sizes = [(config["makers"], 12), (config["kinds"], 4)]
    model = TabularModel(sizes, 4, config["dropout"])
    nn.init.constant_(model.layers[-1].bias, float(y_mean))
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config["lr"], epochs=config["epochs"], steps_per_epoch=len(train_dl)
    )
    criterion = nn.HuberLoss()
    run = nanwatch.init(project="corpus", name="auction-prices", config=config)
    best, best_state = float("inf"), None
    for _ in range(config["epochs"]):
        model.train()
        for c, n, target in train_dl:
            optimizer.zero_grad()
            loss = criterion(model(c, n), target)
            loss.backward()
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.no_grad():
            guess = model(cats[4000:], nums[4000:])
            held = criterion(guess, y[4000:])
            rmsle = (guess - y[4000:]).square().mean().sqrt()
        run.log(loss=held, rmsle=rmsle, stage="val")
        if held < best:
            best, best_state = held.item(), copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    run.finish()
