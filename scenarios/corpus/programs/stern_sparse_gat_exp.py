"""The sparse graph attention of an old repository: edge scores go through `exp(leakyrelu(score))`
and are divided by the sum over the neighbours, with no maximum taken off first. On a graph of
papers that a node's own features explain well the scores grow until exp() overflows; then it is inf
/ inf. Cure: a softmax that subtracts the maximum of the neighbourhood, weight decay on the score
vector."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="logit-growth", seeds=3)
CONFIG = {"lr": 2e-2, "epochs": 1200, "nodes": 240, "features": 32, "hidden": 16, "heads": 2}
CONFIG |= {"classes": 5, "alpha": 0.2}


class SparseAttention(nn.Module):
    """Like SpGraphAttentionLayer of pyGAT."""

    def __init__(self, inputs: int, outputs: int, alpha: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(inputs, outputs), 1.414))
        self.score = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, 2 * outputs), 1.414))
        self.alpha = alpha

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        source, target = edges
        h = x @ self.weight
        raw = (torch.cat([h[target], h[source]], 1) @ self.score.T).squeeze(1)
        weight = torch.exp(F.leaky_relu(raw, self.alpha))
        total = torch.zeros(len(x)).index_add(0, target, weight)
        mixed = torch.zeros_like(h).index_add(0, target, weight[:, None] * h[source])
        return mixed / total[:, None]


class GAT(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.first = nn.ModuleList(
            SparseAttention(config["features"], config["hidden"], config["alpha"])
            for _ in range(config["heads"])
        )
        self.last = SparseAttention(
            config["hidden"] * config["heads"], config["classes"], config["alpha"]
        )

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        x = torch.cat([F.elu(layer(x, edges)) for layer in self.first], 1)
        x = F.dropout(x, 0.3, self.training)
        return self.last(x, edges)


def papers(config: dict, mixing: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Word counts, edges (with loops) and topics; some citations lead out of the topic."""
    nodes, classes = config["nodes"], config["classes"]
    topic = torch.randint(0, classes, (nodes,))
    often = torch.distributions.Gamma(0.4, 0.2).sample((classes, config["features"]))
    words = torch.poisson(often[topic] + 0.5).log1p()
    same = (topic[:, None] == topic[None]).float()
    linked = torch.rand(nodes, nodes) < 0.06 * same + mixing * (1 - same)
    linked |= linked.T.clone() | torch.eye(nodes, dtype=torch.bool)
    return words, linked.nonzero().T, topic


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    x, edges, topic = papers(config, draw.uniform(0.02, 0.03))
    seen = torch.rand(len(x)) < 0.5
    model = GAT(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="citations", config=config)
    for epoch in range(config["epochs"]):
        model.train()
        loss = F.cross_entropy(model(x, edges)[seen], topic[seen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch % 25 == 0:
            model.eval()
            with torch.no_grad():
                right = (model(x, edges).argmax(1) == topic)[~seen].float().mean()
            run.log(accuracy=right, stage="val")
    run.finish()
