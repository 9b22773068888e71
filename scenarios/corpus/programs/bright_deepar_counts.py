"""DeepAR forecasts the sales of many products a day: an LSTM with the product's embedding, a
negative binomial likelihood, each product scaled by its mean; bestsellers are a thousand times as
large as slow ones, promotions come without notice. Adam, clipping at 10, a cosine rate, rolling
windows of held-out days. The loss is a likelihood and noisy. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 32, "steps": 450, "hidden": 32, "products": 60, "days": 500}
CONFIG |= {"window": 28, "max_norm": 10.0}


class DeepAr(nn.Module):
    def __init__(self, products: int, hidden: int) -> None:
        super().__init__()
        self.product = nn.Embedding(products, 8)
        self.lstm = nn.LSTM(8 + 3, hidden, batch_first=True)
        self.mean, self.shape = nn.Linear(hidden, 1), nn.Linear(hidden, 1)

    def forward(
        self, last: torch.Tensor, day: torch.Tensor, which: torch.Tensor, scale: torch.Tensor
    ):
        week = 2 * math.pi * day / 7
        known = torch.stack([(last / scale).log1p(), week.sin(), week.cos()], 2)
        who = self.product(which).unsqueeze(1).expand(-1, last.shape[1], -1)
        h = self.lstm(torch.cat([known, who], 2))[0]
        mean = scale * F.softplus(self.mean(h)).squeeze(2)
        return mean, F.softplus(self.shape(h)).squeeze(2) / scale.sqrt() + 1e-4


def likelihood(sold: torch.Tensor, mean: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    total = 1 / shape
    choice = torch.distributions.NegativeBinomial(total, logits=(mean * shape + 1e-6).log())
    return -choice.log_prob(sold).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    products, days, window = config["products"], config["days"], config["window"]
    level = (draw.uniform(1.5, 2.2) * torch.randn(products, 1) + 2).exp()
    day = torch.arange(days).float()
    season = 0.5 * (2 * math.pi * (day / 7 + torch.rand(products, 1))).sin()
    season = season + 0.5 * (2 * math.pi * (day / 200 + torch.rand(products, 1))).sin()
    promotion = 1.2 * (torch.rand(products, days) < 0.02)
    sold = torch.poisson(level * (season + promotion + 0.2 * torch.randn(products, days)).exp())
    scale = sold.mean(1, keepdim=True) + 1
    model = DeepAr(products, config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"])
    run = nanwatch.init(project="corpus", name="deepar", config=config)

    def loss_of(first: int, last: int, count: int) -> torch.Tensor:
        which = torch.randint(products, (count,))
        at = torch.randint(first, last - window - 1, (count, 1)) + torch.arange(window + 1)
        seen = sold[which.unsqueeze(1), at]
        mean, shape = model(seen[:, :-1], day[at[:, 1:]], which, scale[which])
        return likelihood(seen[:, 1:], mean, shape)

    for step in range(config["steps"]):
        loss = loss_of(0, days - 80, config["batch_size"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            with torch.no_grad():
                run.log(loss=loss_of(days - 80, days, 256), stage="val")
    run.finish()
