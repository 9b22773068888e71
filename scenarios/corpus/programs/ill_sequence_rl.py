"""A recurrent generator of strings is tuned by policy gradient for a score, without a penalty on
the distance from where it began and without a bonus on entropy: within some tens of updates it
writes one string only, which is rarely the best. Cure: a KL penalty, a smaller rate.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse")
CONFIG = {"lr": 0.05, "vocab": 8, "length": 8, "hidden": 24, "batch_size": 24, "steps": 350}


class Writer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.embed = nn.Embedding(config["vocab"] + 1, config["hidden"])
        self.cell = nn.GRUCell(config["hidden"], config["hidden"])
        self.head = nn.Linear(config["hidden"], config["vocab"])

    def forward(
        self, token: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        state = self.cell(self.embed(token), state)
        return self.head(state), state


def score(text: torch.Tensor) -> torch.Tensor:
    """Pairs of neighbours in the alphabet, and how many letters differ."""
    follows = (text[:, 1:] == text[:, :-1] + 1).float().mean(1)
    kinds = torch.tensor([len(set(row)) for row in text.tolist()]) / text.shape[1]
    return follows + kinds


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.5)}
    policy = Writer(config)
    optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="string-writer", config=config)
    for _ in range(config["steps"]):
        token = torch.full((config["batch_size"],), config["vocab"])
        state = torch.zeros(config["batch_size"], config["hidden"])
        text, log_probs, entropies = [], [], []
        for _ in range(config["length"]):
            logits, state = policy(token, state)
            log_p = F.log_softmax(logits, dim=1)
            token = torch.multinomial(log_p.detach().exp(), 1)[:, 0]
            text.append(token)
            log_probs.append(log_p.gather(1, token[:, None])[:, 0])
            entropies.append(-(log_p.exp() * log_p).sum(1).mean())
        reward = score(torch.stack(text, dim=1))
        loss = -(torch.stack(log_probs).sum(0) * reward).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=reward.mean(), entropy=torch.stack(entropies).mean().detach())
    run.finish()
