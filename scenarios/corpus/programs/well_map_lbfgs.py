"""A map of forty towns from noisy distances between them, by LBFGS with a strong Wolfe search on
growing shares of the pairs: each share that is added lifts the loss for a moment."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=False, seeds=6)
CONFIG = {"lr": 0.5, "max_iter": 2, "history_size": 5, "towns": 40, "dimensions": 3,
          "shares": [0.1, 0.2, 0.4, 0.7, 1.0], "steps_per_share": 60}  # fmt: skip


class Towns(nn.Module):
    def __init__(self, towns: int, dimensions: int) -> None:
        super().__init__()
        self.places = nn.Parameter(0.1 * torch.randn(towns, dimensions))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        one, other = self.places[pairs[:, 0]], self.places[pairs[:, 1]]
        return self.scale * ((one - other).square().sum(1) + 1e-6).sqrt()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, unit = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([1.0, 10.0])
    config = CONFIG | {"seed": seed, "lr": lr, "unit": unit}
    run = nanwatch.init(project="corpus", name="map-lbfgs", config=config)
    truth = torch.randn(CONFIG["towns"], 2)
    pairs = torch.combinations(torch.arange(CONFIG["towns"]))
    pairs = pairs[torch.randperm(len(pairs))]
    far = unit * (truth[pairs[:, 0]] - truth[pairs[:, 1]]).norm(dim=1)
    far = far * (1 + 0.1 * torch.randn_like(far))
    model = Towns(CONFIG["towns"], CONFIG["dimensions"])
    for share in CONFIG["shares"]:
        known = int(share * len(pairs))
        run.mark("note", f"{known} pairs")
        optimizer = torch.optim.LBFGS(
            model.parameters(), lr=lr, max_iter=CONFIG["max_iter"], max_eval=8,
            history_size=CONFIG["history_size"], line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure(known: int = known, optimizer: torch.optim.Optimizer = optimizer):
            optimizer.zero_grad()
            loss = (model(pairs[:known]) - far[:known]).square().mean()
            loss.backward()
            return loss

        for _ in range(CONFIG["steps_per_share"]):
            optimizer.step(closure)
        with torch.no_grad():
            error = (model(pairs) - far).abs().mean() / unit
        run.log(error_of_all=error, stage="val")
    run.finish()
