"""A pointer network learns short tours through twelve towns by policy gradient. The reward is
minus the length of the tour and is used as it is, with neither baseline nor normalisation, under
Adam at 0.02: what was chosen is always punished, whichever way, and chance decides which order
of towns is left when the policy has become certain, within a hundred steps. Cure: a rollout
baseline, 1e-4.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse", seeds=3)
CONFIG = {"lr": 0.02, "batch_size": 48, "steps": 400, "towns": 12, "width": 32}


class Pointer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.town = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width))
        self.cell = nn.GRUCell(width, width)
        self.query = nn.Linear(width, width)
        self.start = nn.Parameter(torch.zeros(width))

    def forward(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Order of the towns, log-probability of it, mean entropy of the choices."""
        count, towns, _ = places.shape
        known = self.town(places)
        state, last = known.mean(1), self.start.expand(count, -1)
        left = torch.ones(count, towns, dtype=torch.bool)
        order, log_prob, entropy = [], torch.zeros(count), torch.zeros(count)
        for _ in range(towns):
            state = self.cell(last, state)
            fit = torch.einsum("nd,ntd->nt", self.query(state), known) / known.shape[2] ** 0.5
            policy = Categorical(logits=fit.masked_fill(~left, -1e9))
            town = policy.sample()
            log_prob = log_prob + policy.log_prob(town)
            entropy = entropy + policy.entropy() / towns
            left = left.scatter(1, town.unsqueeze(1), False)
            last = known[torch.arange(count), town]
            order.append(town)
        return torch.stack(order, 1), log_prob, entropy.mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.5)}
    model = Pointer(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="pointer-tours", config=config)
    for _ in range(config["steps"]):
        places = torch.rand(config["batch_size"], config["towns"], 2)
        order, log_prob, entropy = model(places)
        path = places.gather(1, order.unsqueeze(2).expand(-1, -1, 2))
        reward = -(path - path.roll(1, 1)).norm(dim=2).sum(1)
        loss = -(reward * log_prob).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=reward.mean(), entropy=entropy.detach())
    run.finish()
