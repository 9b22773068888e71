"""Two towers recommend recipes: sparse embeddings under Adagrad for ids, Adam for the dense layers,
softmax over the batch with a correction for popular recipes. Twice there is a feast, when people
cook other things for a while and the loss shifts. Nothing is wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=False, seeds=3)
CONFIG = {"lr_ids": 0.15, "lr_dense": 2e-3, "batch_size": 64, "users": 400, "recipes": 300}
CONFIG |= {"width": 24, "steps": 1200, "season": 300, "temperature": 0.2}


class Tower(nn.Module):
    def __init__(self, count, width):
        super().__init__()
        self.ids = nn.Embedding(count, width, sparse=True)
        nn.init.normal_(self.ids.weight, std=0.3)
        self.dense = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, rows):
        x = self.ids(rows)
        return F.normalize(x + self.dense(x), dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    taste, kind = torch.randn(config["users"], 5), torch.randn(config["recipes"], 5)
    popular = torch.randn(config["recipes"])
    festive = 2.5 * (torch.rand(config["recipes"]) < 0.1)
    user_tower = Tower(config["users"], config["width"])
    recipe_tower = Tower(config["recipes"], config["width"])
    ids = [user_tower.ids.weight, recipe_tower.ids.weight]
    dense = [*user_tower.dense.parameters(), *recipe_tower.dense.parameters()]
    ids_opt = torch.optim.Adagrad(ids, lr=config["lr_ids"])
    dense_opt = torch.optim.Adam(dense, lr=config["lr_dense"])
    run = nanwatch.init(project="corpus", name="recipes", config=config)
    for step in range(config["steps"]):
        in_season = step % (2 * config["season"]) >= 1.6 * config["season"]
        users = torch.randint(0, config["users"], (config["batch_size"],))
        logits = 2 * taste[users] @ kind.T + popular + festive * in_season
        cooked = torch.multinomial(logits.softmax(1), 1).squeeze(1)
        score = user_tower(users) @ recipe_tower(cooked).T / config["temperature"]
        score = score - popular.log_softmax(0)[cooked]
        same = (cooked[:, None] == cooked) & ~torch.eye(len(cooked), dtype=torch.bool)
        score = score.masked_fill(same, -1e9)
        loss = F.cross_entropy(score, torch.arange(len(users)))
        ids_opt.zero_grad()
        dense_opt.zero_grad()
        loss.backward()
        ids_opt.step()
        dense_opt.step()
        if step % 150 == 149:
            with torch.no_grad():
                every = user_tower(torch.arange(config["users"]))
                score = every @ recipe_tower(torch.arange(config["recipes"])).T
                best = (taste @ kind.T).topk(10).indices
                recall = (score.topk(30).indices[:, :, None] == best[:, None]).any(1).float()
            run.log(recall_at_30=recall.mean(), stage="val")
    run.finish()
