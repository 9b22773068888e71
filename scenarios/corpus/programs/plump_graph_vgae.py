"""A variational graph autoencoder predicts links, as in the example of the graph library: two GCN
layers give mean and log-deviation for each node (capped at 10), an inner product decodes, positive
edges against sampled negative ones, KL over the number of nodes. Full batch, Adam at 0.01, a tenth
of the edges held out. The loss starts above 2 and falls to about 1, its floor. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=False, seeds=3)
CONFIG = {"lr": 0.01, "epochs": 400, "nodes": 300, "groups": 6, "features": 40, "latent": 12}


class Encoder(nn.Module):
    def __init__(self, features: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.one, self.mu = nn.Linear(features, hidden), nn.Linear(hidden, latent)
        self.logstd = nn.Linear(hidden, latent)

    def forward(self, x: torch.Tensor, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.relu(a @ self.one(x))
        return a @ self.mu(hidden), (a @ self.logstd(hidden)).clamp(max=10)


def graph(nodes: int, groups: int, features: int, noise: float):
    """Groups of nodes with many links inside and a few words each."""
    group = torch.randint(groups, (nodes,))
    same = group.unsqueeze(0) == group.unsqueeze(1)
    links = torch.rand(nodes, nodes) < torch.where(same, 0.12, 0.006)
    edges = links.triu(1).nonzero().T
    likes = torch.rand(groups, features).pow(3)
    x = (torch.rand(nodes, features) < 0.6 * likes[group] + noise).float()
    return x / x.sum(1, keepdim=True).clamp(min=1), edges


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    nodes = config["nodes"]
    x, edges = graph(nodes, config["groups"], config["features"], draw.uniform(0.02, 0.08))
    edges = edges[:, torch.randperm(edges.shape[1])]
    cut = edges.shape[1] // 10
    held, seen = edges[:, :cut], edges[:, cut:]
    a = torch.eye(nodes)
    a[seen[0], seen[1]] = a[seen[1], seen[0]] = 1
    root = a.sum(1).rsqrt()
    a = root.unsqueeze(1) * a * root
    encoder = Encoder(config["features"], draw.choice([24, 32]), config["latent"])
    optimizer = torch.optim.Adam(encoder.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="citation-vgae", config=config)

    def recon(z: torch.Tensor, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        none = torch.randint(nodes, edges.shape)
        good, bad = ((z[e[0]] * z[e[1]]).sum(1) for e in (edges, none))
        loss = F.softplus(-good).mean() + F.softplus(bad).mean()
        return loss, (good.unsqueeze(1) > bad).float().mean()

    for epoch in range(config["epochs"]):
        mu, logstd = encoder(x, a)
        z = mu + torch.randn_like(mu) * logstd.exp()
        kl = -0.5 * (1 + 2 * logstd - mu.square() - (2 * logstd).exp()).sum(1).mean()
        loss = recon(z, seen)[0] + kl / nodes
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch % 20 == 19:
            with torch.no_grad():
                loss, auc = recon(encoder(x, a)[0], held)
            run.log(loss=loss, auc=auc, stage="val")
    run.finish()
