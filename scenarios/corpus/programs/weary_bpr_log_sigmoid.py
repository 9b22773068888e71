"""Recommendations by matrix factorisation with the BPR loss written as in the paper,
-log(sigmoid(score difference)). Adam at 0.1 and no weight decay let the embeddings grow; some day
one pair of a listener with rare taste is misjudged by more than a hundred, its sigmoid is zero, the
log minus infinity. Cure: F.logsigmoid (or softplus), some decay."""

from __future__ import annotations

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 0.1, "batch_size": 256, "factors": 32, "users": 300, "items": 500, "steps": 1200}
CONFIG |= {"per_user": 20, "weight_decay": 0.0, "stray": 0.05}


def listening(config):
    """(user, item) pairs: tastes in a few genres, popular items more often, some strays."""
    taste = torch.randn(config["users"], 6)
    genre = torch.randn(config["items"], 6)
    logits = 1.5 * taste @ genre.T + torch.randn(config["items"])
    heard = torch.multinomial(logits.softmax(1), config["per_user"])
    stray = torch.rand(heard.shape) < config["stray"]
    heard = torch.where(stray, torch.randint(0, config["items"], heard.shape), heard)
    user = torch.arange(config["users"]).unsqueeze(1).expand_as(heard)
    return torch.stack([user.flatten(), heard.flatten()], 1), heard


class Factors(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.user = nn.Embedding(config["users"], config["factors"])
        self.item = nn.Embedding(config["items"], config["factors"])
        self.bias = nn.Embedding(config["items"], 1)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, user, item):
        return (self.user(user) * self.item(item)).sum(1) + self.bias(item).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    pairs, heard = listening(config)
    model = Factors(config)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    run = nanwatch.init(project="corpus", name="bpr-songs", config=config)
    step = 0
    while step < config["steps"]:
        for rows in torch.randperm(len(pairs)).split(config["batch_size"]):
            user, item = pairs[rows].T
            other = torch.randint(0, config["items"], (len(rows),))
            difference = model(user, item) - model(user, other)
            loss = -torch.log(torch.sigmoid(difference)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        if step % 500 < 24:
            with torch.no_grad():
                score = model.user.weight @ model.item.weight.T + model.bias.weight.T
                best = score.topk(20).indices
                hits = (best.unsqueeze(2) == heard.unsqueeze(1)).any(2).float().mean()
            run.log(precision_at_20=hits, stage="val")
    run.finish()
