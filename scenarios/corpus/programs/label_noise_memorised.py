"""A wide net on 300 examples with a fifth of the labels wrong: the training loss goes to nearly
nothing while the held-out loss rises by half or more and the held-out accuracy stays good."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="overfitting", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "batch_size": 30, "rows": 300, "epochs": 90, "optimizer": "adam"}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([128, 192, 256])
    wrong = draw.uniform(0.15, 0.25)
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "label_noise": wrong}
    run = nanwatch.init(project="corpus", name="label-noise", config=config)
    centres = 1.1 * torch.randn(5, 20)

    def draw_rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(0, 5, (count,))
        return centres[label] + torch.randn(count, 20), label

    x, label = draw_rows(CONFIG["rows"])
    label = torch.where(torch.rand(len(label)) < wrong, torch.randint(0, 5, label.shape), label)
    held_x, held_label = draw_rows(500)
    model = nn.Sequential(nn.Linear(20, hidden), nn.ReLU(), nn.Linear(hidden, 5))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(CONFIG["epochs"]):
        for batch in torch.randperm(len(x)).split(CONFIG["batch_size"]):
            loss = F.cross_entropy(model(x[batch]), label[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 5 == 4:
            with torch.no_grad():
                logits = model(held_x)
                run.log(
                    loss=F.cross_entropy(logits, held_label),
                    accuracy=(logits.argmax(1) == held_label).float().mean(),
                    stage="val",
                )
    run.finish()
