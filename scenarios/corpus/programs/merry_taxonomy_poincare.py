"""Animals of a taxonomy are embedded in the Poincare ball with negative samples: Riemannian SGD
(the gradient scaled by the metric), a burn-in at a tenth of the rate, points pulled back to 1 -
1e-3, and acosh of what is kept above 1 + 1e-6. The points go to the rim, slowly. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=False, seeds=3)
CONFIG = {"lr": 0.5, "batch_size": 64, "steps": 900, "burn_in": 60, "negatives": 8, "depth": 5}
CONFIG |= {"children": 3, "dims": 4}


def far(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    gap = (u - v).square().sum(-1)
    room = (1 - u.square().sum(-1)) * (1 - v.square().sum(-1))
    return torch.acosh((1 + 2 * gap / room.clamp(min=1e-6)).clamp(min=1 + 1e-6))


def tree(depth: int, children: int) -> torch.Tensor:
    """All pairs (animal, one of its ancestors)."""
    pairs, parent, level, count = [], {0: None}, [0], 1
    for _ in range(depth - 1):
        below = []
        for node in level:
            for _ in range(children):
                parent[count] = node
                below.append(count)
                count += 1
        level = below
    for node in parent:
        above = parent[node]
        while above is not None:
            pairs.append((node, above))
            above = parent[above]
    return torch.tensor(pairs)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    pairs = tree(config["depth"], config["children"])
    size = int(pairs.max()) + 1
    table = nn.Embedding(size, config["dims"])
    nn.init.uniform_(table.weight, -1e-2, 1e-2)
    optimizer = torch.optim.SGD(table.parameters(), lr=config["lr"])
    warm = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.1 if step < config["burn_in"] else 1.0
    )
    run = nanwatch.init(project="corpus", name="taxonomy", config=config)
    for step in range(config["steps"]):
        rows = torch.randint(len(pairs), (config["batch_size"],))
        wrong = torch.randint(size, (config["batch_size"], config["negatives"]))
        u = table(pairs[rows, :1])
        v = table(torch.cat([pairs[rows, 1:], wrong], 1))
        loss = F.cross_entropy(-far(u, v), torch.zeros(len(rows), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            weight = table.weight
            weight.grad *= ((1 - weight.square().sum(1, keepdim=True)) ** 2 / 4) * len(rows) / 4
        optimizer.step()
        warm.step()
        with torch.no_grad():
            norm = table.weight.norm(dim=1, keepdim=True)
            table.weight.mul_((0.999 / norm.clamp(min=1e-9)).clamp(max=1))
        if step % 100 == 99:
            with torch.no_grad():
                all_far = far(table.weight[pairs[:, :1]], table.weight.unsqueeze(0))
                own = all_far.gather(1, pairs[:, 1:])
                run.log(rank=(all_far < own).float().sum(1).mean(), stage="val")
    run.finish()
