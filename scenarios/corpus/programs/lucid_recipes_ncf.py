"""Neural collaborative filtering of recipes: embeddings of cooks and recipes go through a product
and through a small net, both end in one logit; four random recipes for each that was cooked, cross
entropy, Adam with weight decay. Popular recipes are seen often, most cooks rarely; the negatives
differ each epoch. Norms of embeddings grow all along, the loss creeps down. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 256, "epochs": 12, "cooks": 400, "recipes": 300, "width": 12}
CONFIG |= {"negatives": 4, "cooked": 8000, "weight_decay": 1e-5}


class Ncf(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.cook, self.recipe = nn.Embedding(400, width), nn.Embedding(300, width)
        self.cook_net, self.recipe_net = nn.Embedding(400, width), nn.Embedding(300, width)
        for table in (self.cook, self.recipe, self.cook_net, self.recipe_net):
            nn.init.normal_(table.weight, std=0.05)
        self.net = nn.Sequential(nn.Linear(2 * width, 32), nn.ReLU(), nn.Linear(32, 12), nn.ReLU())
        self.out = nn.Linear(12 + width, 1)

    def forward(self, cook: torch.Tensor, recipe: torch.Tensor) -> torch.Tensor:
        product = self.cook(cook) * self.recipe(recipe)
        deep = self.net(torch.cat([self.cook_net(cook), self.recipe_net(recipe)], 1))
        return self.out(torch.cat([product, deep], 1)).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    taste = torch.randn(config["cooks"], 4) @ torch.randn(4, config["recipes"])
    fame = -draw.uniform(0.4, 0.9) * torch.arange(1, config["recipes"] + 1).float().log()
    cook = (torch.rand(config["cooked"]).square() * config["cooks"]).long()
    odds = torch.softmax(taste + fame, 1)
    recipe = torch.multinomial(odds[cook], 1).squeeze(1)
    last = len(cook) - 1000
    model = Ncf(config)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    run = nanwatch.init(project="corpus", name="recipes-ncf", config=config)
    for _ in range(config["epochs"]):
        count = last * config["negatives"]
        cooks = torch.cat([cook[:last], cook[:last].repeat(config["negatives"])])
        recipes = torch.cat([recipe[:last], torch.randint(config["recipes"], (count,))])
        liked = torch.cat([torch.ones(last), torch.zeros(count)])
        for rows in torch.randperm(len(cooks)).split(config["batch_size"]):
            out = model(cooks[rows], recipes[rows])
            loss = F.binary_cross_entropy_with_logits(out, liked[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            true = model(cook[last:], recipe[last:])
            false = torch.stack([
                model(cook[last:], torch.randint(config["recipes"], (1000,))) for _ in range(9)
            ])  # fmt: skip
        run.log(hits=((false < true).float().mean(0) > 0.85).float().mean(), stage="val")
    run.finish()
