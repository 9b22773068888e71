"""Graph contrastive learning, then a probe: two views of each small molecule (atoms masked, bonds
dropped) under NT-Xent with warm restarts of the rate, then a linear probe with SGD on the frozen
encoder. The loss rises a bit after each restart. Nothing is wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "probe_lr": 0.3, "batch_size": 48, "atoms": 10, "kinds": 5, "hidden": 32}
CONFIG |= {"steps": 700, "first_cycle": 100, "probe_steps": 300, "temperature": 0.3}


def molecules(n, atoms, kinds):
    """(kinds of atoms, bonds, the most common kind): rings, chains and stars, a few more bonds."""
    shape = torch.randint(0, 3, (n,))
    ring = torch.eye(atoms).roll(1, 1)
    chain = ring.clone()
    chain[-1, 0] = 0
    star = torch.zeros(atoms, atoms)
    star[0, 1:] = 1
    bonds = torch.stack([ring, chain, star])[shape]
    bonds = ((bonds + (torch.rand(n, atoms, atoms) < 0.02)) > 0).float()
    favourite = torch.randint(0, kinds, (n, 1))
    common = torch.rand(n, atoms) < 0.5
    kind = torch.where(common, favourite, torch.randint(0, kinds, (n, atoms)))
    return F.one_hot(kind, kinds).float(), (bonds + bonds.mT).clamp(max=1), favourite.squeeze(1)


class Gin(nn.Module):
    def __init__(self, kinds, hidden):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
            for width in (kinds, hidden, hidden)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))

    def forward(self, x, bonds):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x + bonds @ x)))
        return x.mean(1)


def view(x, bonds):
    x = x * (torch.rand(*x.shape[:2], 1) > 0.15)
    keep = (torch.rand_like(bonds) > 0.1).triu(1)
    return x, bonds * (keep | keep.mT)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    x, bonds, common = molecules(1000, config["atoms"], config["kinds"])
    encoder = Gin(config["kinds"], config["hidden"])
    project = nn.Sequential(nn.Linear(config["hidden"], 32), nn.ReLU(), nn.Linear(32, 16))
    optimizer = torch.optim.Adam([*encoder.parameters(), *project.parameters()], lr=config["lr"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, config["first_cycle"], 2
    )
    run = nanwatch.init(project="corpus", name="molecule-views", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(0, 800, (config["batch_size"],))
        both = [project(encoder(*view(x[rows], bonds[rows]))) for _ in range(2)]
        z = F.normalize(torch.cat(both), dim=1)
        likeness = (z @ z.T / config["temperature"]).fill_diagonal_(-torch.inf)
        other = torch.arange(len(z)).roll(len(rows))
        loss = F.cross_entropy(likeness, other)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.mark("task", "probe")
    with torch.no_grad():
        features = encoder(x, bonds)
        features = (features - features.mean(0)) / (features.std(0) + 1e-3)
    probe = nn.Linear(config["hidden"], config["kinds"])
    sgd = torch.optim.SGD(probe.parameters(), lr=config["probe_lr"])
    for step in range(config["probe_steps"]):
        rows = torch.randint(0, 800, (config["batch_size"],))
        loss = F.cross_entropy(probe(features[rows]), common[rows])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        if step % 60 == 59:
            right = (probe(features[800:]).argmax(1) == common[800:]).float().mean()
            run.log(accuracy=right, stage="val")
    run.finish()
