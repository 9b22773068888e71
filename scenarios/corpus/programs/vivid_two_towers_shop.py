"""Two towers recommend products in a shop: embeddings of customers and products, a layer each,
and a softmax over the products of the batch with the correction for how popular they are.
Embeddings by Adagrad, layers by Adam; temperature fixed at 0.1. Products are bought by Zipf's
law, so that the loss starts near the logarithm of the batch size and comes down slowly. Nothing
is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "embedding_lr": 0.1, "batch_size": 128, "epochs": 10, "width": 24}
CONFIG |= {"customers": 600, "products": 300, "temperature": 0.1}


class Towers(nn.Module):
    def __init__(self, customers: int, products: int, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(n, width) for n in (customers, products)])
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.1)
        self.layers = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 16)) for _ in range(2)]
        )

    def forward(self, who: torch.Tensor, what: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pair = zip(self.layers, self.tables, (who, what), strict=True)
        a, b = (F.normalize(layer(table(index)), dim=1) for layer, table, index in pair)
        return a, b


def purchases(config: dict, count: int, sharp: float) -> tuple[torch.Tensor, torch.Tensor]:
    customers, products = config["customers"], config["products"]
    taste, kind = torch.randn(customers, 6), torch.randn(products, 6)
    fame = -0.8 * torch.log(1 + torch.arange(products).float())
    who = torch.randint(customers, (count,))
    odds = torch.softmax(sharp * taste @ kind.T + fame, 1)
    return who, torch.multinomial(odds[who], 1).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    scale = draw.uniform(0.6, 1.4)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * scale}
    who, what = purchases(config, 14_000, draw.uniform(0.8, 1.2))
    train_rows, held = torch.arange(12_800), torch.arange(12_800, 14_000)
    share = torch.bincount(what, minlength=config["products"]).float().clamp(min=1) / len(what)
    model = Towers(config["customers"], config["products"], config["width"])
    tables = torch.optim.Adagrad(model.tables.parameters(), lr=config["embedding_lr"])
    layers = torch.optim.Adam(model.layers.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="shop-towers", config=config)
    for _ in range(config["epochs"]):
        for rows in train_rows[torch.randperm(len(train_rows))].split(config["batch_size"]):
            a, b = model(who[rows], what[rows])
            logits = a @ b.T / config["temperature"] - share[what[rows]].log()
            same = what[rows].unsqueeze(0) == what[rows].unsqueeze(1)
            same = same & ~torch.eye(len(rows)).bool()
            loss = F.cross_entropy(logits.masked_fill(same, -1e4), torch.arange(len(rows)))
            tables.zero_grad()
            layers.zero_grad()
            loss.backward()
            tables.step()
            layers.step()
        with torch.no_grad():
            a, b = model(who[held], torch.arange(config["products"]).repeat(4))
            rank = (a @ b[: config["products"]].T).topk(20, 1).indices
        run.log(recall=(rank == what[held].unsqueeze(1)).any(1).float().mean(), stage="val")
    run.finish()
