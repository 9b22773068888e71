"""GraphSAGE with sampled neighbours guesses who will trade with whom: a max-margin loss against
random pairs, ever more of which cost nothing, on a graph whose degrees follow a power law."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "batch_size": 64, "neighbours": 6, "negatives": 4, "margin": 1.0,
          "firms": 400, "steps": 750}  # fmt: skip


def trades(branch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Partners of each firm, [firms, 24] drawn with repeats, and trades to be told, [rows, 2]."""
    count = len(branch)
    fame = torch.rand(count) ** -0.6
    chain = (branch[:, None] + 1) % 8 == branch[None]
    chance = fame[None] * (0.05 + chain.float() + chain.float().T)
    partners = chance.multinomial(24, replacement=True)
    known, told = partners[:, :16], partners[:, 16:]
    rows = torch.arange(count)[:, None].expand_as(told)
    return known, torch.stack([rows.flatten(), told.flatten()], dim=1)


class Sage(nn.Module):
    def __init__(self, enter: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2 * enter, width), nn.Linear(2 * width, width)
        self.score = nn.Bilinear(width, width, 1)

    def forward(self, x: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """All firms, each through some of its partners and theirs."""
        near = known[:, torch.randperm(known.shape[1])[: CONFIG["neighbours"]]]
        h = F.relu(self.first(torch.cat([x, x[near].mean(1)], dim=1)))
        h = self.second(torch.cat([h, h[near].mean(1)], dim=1))
        return F.normalize(h, dim=1) * 3


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="trades-sage", config=config)
    branch = torch.randint(0, 8, (CONFIG["firms"],))
    x = torch.randn(8, 10)[branch] + draw.uniform(0.8, 1.2) * torch.randn(CONFIG["firms"], 10)
    known, told = trades(branch)
    told = told[torch.randperm(len(told))]
    held, told = told[:500], told[500:]
    model = Sage(10, width)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def margins(pairs: torch.Tensor) -> torch.Tensor:
        """By how much a trade is ahead of each random one, [rows, negatives]."""
        h = model(x, known)
        near, far = h[pairs[:, 0]], h[pairs[:, 1]]
        wrong = h[torch.randint(0, len(h), (len(pairs), CONFIG["negatives"]))]
        one = near[:, None].expand_as(wrong).contiguous()
        return model.score(near, far) - model.score(one, wrong)[:, :, 0]

    for step in range(CONFIG["steps"]):
        pairs = told[torch.randint(0, len(told), (CONFIG["batch_size"],))]
        loss = F.relu(CONFIG["margin"] - margins(pairs)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 125 == 124:
            with torch.no_grad():
                run.log(auc=(margins(held) > 0).float().mean(), stage="val")
    run.finish()
