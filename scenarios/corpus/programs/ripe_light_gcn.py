"""Light graph convolution recommends board games: embeddings of players and games are averaged
over the graph of what was played, three times, and ranked by pairs (BPR) with L2 on the
embeddings of the batch. Whole graph in each step, batches of edges. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=False, seeds=3)
CONFIG = {"lr": 5e-3, "weight_decay": 1e-4, "batch_size": 256, "epochs": 50, "width": 24}
CONFIG |= {"players": 300, "games": 200, "layers": 3}


class LightGcn(nn.Module):
    def __init__(self, config: dict, graph: torch.Tensor) -> None:
        super().__init__()
        self.players = nn.Embedding(config["players"], config["width"])
        self.games = nn.Embedding(config["games"], config["width"])
        for table in (self.players, self.games):
            nn.init.normal_(table.weight, std=0.1)
        self.graph, self.layers = graph, config["layers"]

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.cat([self.players.weight, self.games.weight])
        total = x
        for _ in range(self.layers):
            x = torch.sparse.mm(self.graph, x)
            total = total + x
        return (total / (self.layers + 1)).split([len(self.players.weight), len(self.games.weight)])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["width"] = draw.choice([16, 24, 32])
    players, games = config["players"], config["games"]
    liking = torch.randn(players, 6) @ torch.randn(6, games) / 2 + torch.randn(games)
    played = torch.zeros(players, games, dtype=torch.bool)
    played.scatter_(1, liking.softmax(1).multinomial(20), True)
    held = played & (torch.rand(players, games) < 0.2)
    user, item = (played & ~held).nonzero().T
    edges = torch.stack([torch.cat([user, item + players]), torch.cat([item + players, user])])
    degree = torch.bincount(edges[0], minlength=players + games).clamp(min=1).float()
    weight = (degree[edges[0]] * degree[edges[1]]).rsqrt()
    graph = torch.sparse_coo_tensor(edges, weight, (players + games,) * 2).coalesce()
    model = LightGcn(config, graph)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="board-games", config=config)
    for epoch in range(config["epochs"]):
        for rows in torch.randperm(len(user)).split(config["batch_size"]):
            u, i, j = user[rows], item[rows], torch.randint(games, (len(rows),))
            of_players, of_games = model()
            better = (of_players[u] * (of_games[i] - of_games[j])).sum(1)
            size = model.players.weight[u].square().sum() + model.games.weight[i].square().sum()
            size = size + model.games.weight[j].square().sum()
            loss = -F.logsigmoid(better).mean() + config["weight_decay"] * size / len(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 5 == 4:
            with torch.no_grad():
                of_players, of_games = model()
                scores = (of_players @ of_games.T).masked_fill(played & ~held, -1e9)
                top = scores.topk(20, 1).indices
                hits = held.gather(1, top).sum(1) / held.sum(1).clamp(min=1)
                run.log(recall=hits.mean(), stage="val")
    run.finish()
