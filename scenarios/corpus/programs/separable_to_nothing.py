"""Two classes that a wide net separates easily, trained far beyond that: cross-entropy falls to
1e-6 and below, batches differ by decades, gradients vanish, and logits grow for ever."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="interpolation", sick=False, seeds=7)
CONFIG = {"lr": 0.01, "batch_size": 10, "rows": 200, "epochs": 50, "optimizer": "adam"}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="separable", config=config)
    axis = torch.randn(8)

    def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 8)
        return x, (torch.tanh(x @ axis) + 0.3 * x[:, 0] > 0).long()

    (x, label), (held_x, held_label) = rows(CONFIG["rows"]), rows(600)
    model = nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(CONFIG["epochs"]):
        if epoch % 10 == 0:
            with torch.no_grad():
                right = model(held_x).argmax(1) == held_label
            run.log(accuracy=right.float().mean(), stage="val")
        for batch in torch.randperm(len(x)).split(CONFIG["batch_size"]):
            loss = F.cross_entropy(model(x[batch]), label[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run.finish()
