"""One trunk, three jobs of a building: its use (cross entropy, about 1), whether the heating
fails (rarely, about 0.2) and the energy bill (squared hundreds of euros, about 50). The jobs
take turns step by step, each drawn at random: the loss jumps between three levels from first to
last. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="multi-task", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 32, "steps": 800, "hidden": 48, "uses": 4}
CONFIG |= {"turns": {"use": 0.4, "failure": 0.3, "bill": 0.3}}


class Building(nn.Module):
    def __init__(self, hidden: int, uses: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.heads = nn.ModuleDict(
            {
                "use": nn.Linear(hidden, uses),
                "failure": nn.Linear(hidden, 1),
                "bill": nn.Linear(hidden, 1),
            }
        )

    def forward(self, x: torch.Tensor, job: str) -> torch.Tensor:
        return self.heads[job](self.trunk(x))


def answers(x: torch.Tensor, mixing: torch.Tensor) -> dict[str, torch.Tensor]:
    hidden = torch.tanh(x @ mixing)
    return {
        "use": hidden[:, :4].argmax(1),
        "failure": (hidden[:, 4] + 0.3 * torch.randn(len(x)) > 0.95).float(),
        "bill": 10 + 7 * hidden[:, 5] + 3 * hidden[:, 6] * hidden[:, 7],
    }


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    mixing = torch.randn(10, 8) / 2
    model = Building(config["hidden"], config["uses"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="buildings", config=config)
    jobs, shares = list(config["turns"]), list(config["turns"].values())
    for _ in range(config["steps"]):
        job = draw.choices(jobs, shares)[0]
        x = torch.randn(config["batch_size"], 10)
        right, said = answers(x, mixing)[job], model(x, job)
        if job == "use":
            loss = F.cross_entropy(said, right)
        elif job == "failure":
            loss = F.binary_cross_entropy_with_logits(said.squeeze(1), right)
        else:
            loss = F.mse_loss(said.squeeze(1), right)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    run.finish()
