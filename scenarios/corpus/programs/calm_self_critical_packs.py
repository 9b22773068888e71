"""Self-critical REINFORCE packs knapsacks: a set network says for each item how likely it goes in,
the greedy pack is the baseline. The loss starts around ten, of either sign, and ends near zero."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=6)
CONFIG = {"lr": 5e-4, "batch_size": 64, "items": 12, "room": 3.0, "entropy": 0.01,
          "max_norm": 1.0, "steps": 900}  # fmt: skip


class Packer(nn.Module):
    """Each item sees itself, the sum over all items, and what is better per weight than it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.item = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        h = self.item(items)
        whole = h.mean(1, keepdim=True).expand_as(h)
        return self.head(torch.cat([h, whole], dim=2))[:, :, 0]


def worth(items: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
    """What is packed is worth, less twice the weight that is too much."""
    value, weight = (items * packed[:, :, None]).sum(1).T
    return value - 2 * (weight - CONFIG["room"]).clamp(min=0)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="knapsack-scst", config=config)
    policy = Packer(width)
    optimizer = torch.optim.Adam(policy.parameters(), lr=lr)
    held = torch.rand(500, CONFIG["items"], 2)
    for step in range(CONFIG["steps"]):
        items = torch.rand(CONFIG["batch_size"], CONFIG["items"], 2)
        logits = policy(items)
        packed = torch.bernoulli(logits.detach().sigmoid())
        reward = worth(items, packed)
        advantage = reward - worth(items, (logits.detach() > 0).float())
        nats = F.binary_cross_entropy_with_logits(logits, packed, reduction="none")
        chance = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(logits, chance, reduction="none").sum(1)
        loss = (advantage * nats.sum(1)).mean() - CONFIG["entropy"] * entropy.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), CONFIG["max_norm"])
        optimizer.step()
        run.log(reward=reward.mean(), entropy=entropy.mean())
        if step % 150 == 149:
            with torch.no_grad():
                run.log(worth=worth(held, (policy(held) > 0).float()).mean(), stage="val")
    run.finish()
