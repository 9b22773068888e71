"""REINFORCE with a greedy rollout as baseline learns short round trips through eight cities, by
attention over the cities not yet seen (the others are masked with minus infinity). The surrogate
loss wanders around zero and says nothing; the lengths fall. Nothing is wrong."""

from __future__ import annotations

import copy

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-reinforce", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 64, "cities": 8, "width": 32, "updates": 600}
CONFIG |= {"max_grad_norm": 1.0, "baseline_every": 50, "clip_logits": 10.0}


class Pointer(nn.Module):
    def __init__(self, width, clip):
        super().__init__()
        self.clip = clip
        self.enter = nn.Linear(2, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.query, self.key = nn.Linear(3 * width, width), nn.Linear(width, width)

    def forward(self, cities, greedy=False):
        """(log-probability, length) of a round trip for each set of cities."""
        h = self.encoder(self.enter(cities))
        keys, batch = self.key(h), torch.arange(len(cities))
        seen = torch.zeros(cities.shape[:2], dtype=torch.bool)
        first = at = torch.zeros(len(cities), dtype=torch.long)
        seen[:, 0], log_prob, tour = True, 0.0, [at]
        for _ in range(cities.shape[1] - 1):
            context = torch.cat([h.mean(1), h[batch, first], h[batch, at]], 1)
            score = (keys @ self.query(context).unsqueeze(2)).squeeze(2) / keys.shape[2] ** 0.5
            score = (self.clip * torch.tanh(score)).masked_fill(seen, -torch.inf)
            dist = score.log_softmax(1)
            at = dist.argmax(1) if greedy else torch.multinomial(dist.exp(), 1).squeeze(1)
            log_prob = log_prob + dist[batch, at]
            seen = seen.scatter(1, at.unsqueeze(1), True)
            tour.append(at)
        path = cities[batch.unsqueeze(1), torch.stack(tour, 1)]
        return log_prob, (path - path.roll(-1, 1)).norm(dim=2).sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    model = Pointer(config["width"], config["clip_logits"])
    baseline = copy.deepcopy(model).eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="tsp-pointer", config=config)
    run.watch(model=model)
    held = torch.rand(200, config["cities"], 2)
    for update in range(config["updates"]):
        cities = torch.rand(config["batch_size"], config["cities"], 2)
        log_prob, length = model(cities)
        with torch.no_grad():
            usual = baseline(cities, greedy=True)[1]
        loss = ((length - usual) * log_prob).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_grad_norm"])
        optimizer.step()
        run.log(reward=-length.mean())
        if update % config["baseline_every"] == config["baseline_every"] - 1:
            with torch.no_grad():
                mine, theirs = model(held, greedy=True)[1], baseline(held, greedy=True)[1]
            if mine.mean() < theirs.mean():
                baseline.load_state_dict(model.state_dict())
            run.log(tour_length=mine.mean(), stage="val")
    run.finish()
