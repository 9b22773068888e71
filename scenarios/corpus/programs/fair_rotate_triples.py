"""A knowledge graph by RotatE with self-adversarial negatives and Adagrad: embeddings keep growing,
a step touches a part of them, and the loss comes down from the margin."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="embeddings", sick=False, seeds=6)
CONFIG = {"lr": 0.1, "margin": 6.0, "temperature": 1.0, "negatives": 16, "batch_size": 64,
          "entities": 150, "relations": 4, "size": 12, "steps": 1000}  # fmt: skip


class Rotate(nn.Module):
    """Entities are complex vectors, relations turn them."""

    def __init__(self) -> None:
        super().__init__()
        size, bound = CONFIG["size"], 8.0 / CONFIG["size"]
        self.entities = nn.Embedding(CONFIG["entities"], 2 * size)
        self.angles = nn.Embedding(CONFIG["relations"], size)
        nn.init.uniform_(self.entities.weight, -bound, bound)
        nn.init.uniform_(self.angles.weight, -3.14, 3.14)

    def score(self, head: torch.Tensor, relation: torch.Tensor, tail: torch.Tensor) -> torch.Tensor:
        re, im = self.entities(head).chunk(2, dim=-1)
        angle = self.angles(relation)
        turned = torch.cat(
            [re * angle.cos() - im * angle.sin(), re * angle.sin() + im * angle.cos()], dim=-1
        )
        gap = (turned - self.entities(tail)).unflatten(-1, (2, -1))
        return CONFIG["margin"] - (gap.square().sum(-2) + 1e-9).sqrt().sum(-1)


def graph(draw: random.Random) -> torch.Tensor:
    """Places on a ring: relations are shifts, and popular places occur far more often."""
    count, shifts = CONFIG["entities"], [1, 7, 30, -1]
    popular = [min(int(draw.paretovariate(0.8)) * 3, count) for _ in range(count)]
    heads = draw.choices(range(count), popular, k=2500) + list(range(count)) * 4
    rows = []
    for head in heads:
        relation = draw.randrange(CONFIG["relations"])
        wrong = draw.random() < 0.03
        tail = draw.randrange(count) if wrong else (head + shifts[relation]) % count
        rows.append((head, relation, tail))
    draw.shuffle(rows)
    return torch.tensor(rows)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    run = nanwatch.init(
        project="corpus", name="rotate-ring", config=CONFIG | {"seed": seed, "lr": lr}
    )
    triples, model = graph(draw), Rotate()
    known, held = triples[:-300], triples[-300:]
    optimizer = torch.optim.Adagrad(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        head, relation, tail = known[torch.randint(0, len(known), (CONFIG["batch_size"],))].T
        others = torch.randint(0, CONFIG["entities"], (CONFIG["batch_size"], CONFIG["negatives"]))
        right = F.logsigmoid(model.score(head, relation, tail))
        wrong = model.score(head[:, None], relation[:, None], others)
        weight = (CONFIG["temperature"] * wrong.detach()).softmax(1)
        loss = -(right.mean() + (weight * F.logsigmoid(-wrong)).sum(1).mean()) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            head, relation, tail = held.T
            with torch.no_grad():
                all_tails = torch.arange(CONFIG["entities"])[None]
                scores = model.score(head[:, None], relation[:, None], all_tails)
                rank = (scores > scores.gather(1, tail[:, None])).sum(1) + 1
            run.log(mrr=(1 / rank).mean(), stage="val")
    run.finish()
