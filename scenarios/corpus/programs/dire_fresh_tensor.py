"""A graph net tells which molecules stick to a protein, one graph at a time. Losses are gathered as
numbers in a list; "element 0 of tensors does not require grad" was silenced with
`torch.tensor(losses, requires_grad=True)`: backward works, and reaches nothing. Cure:
`torch.stack(losses).mean()`.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="frozen-weights", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 8, "epochs": 30, "hidden": 24, "kinds": 5}


class GraphNet(nn.Module):
    def __init__(self, kinds: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(kinds, hidden)
        self.conv1, self.conv2 = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, atoms: torch.Tensor, bonds: torch.Tensor) -> torch.Tensor:
        degree = bonds.sum(1, keepdim=True) + 1
        x = self.embed(atoms)
        x = F.relu(self.conv1((bonds @ x + x) / degree))
        x = F.relu(self.conv2((bonds @ x + x) / degree))
        return self.out(x.mean(0)).squeeze(0)


def molecule(draw: random.Random, kinds: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    size = draw.randint(6, 14)
    atoms = torch.randint(kinds, (size,))
    bonds = torch.zeros(size, size)
    for i in range(1, size):
        j = draw.randrange(i)
        bonds[i, j] = bonds[j, i] = 1
    first, second = (atoms == 0).float(), (atoms == 1).float()
    sticks = (first @ bonds @ second + 0.3 * torch.randn(())) > 0.5
    return atoms, bonds, sticks.float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    molecules = [molecule(draw, config["kinds"]) for _ in range(480)]
    held, molecules = molecules[:80], molecules[80:]
    model = GraphNet(config["kinds"], config["hidden"])
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sticky-molecules", config=config)
    for _ in range(config["epochs"]):
        draw.shuffle(molecules)
        for at in range(0, len(molecules), config["batch_size"]):
            losses = []
            for atoms, bonds, sticks in molecules[at : at + config["batch_size"]]:
                losses.append(criterion(model(atoms, bonds), sticks).item())
            loss = torch.tensor(losses, requires_grad=True).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(loss=loss.item())
        with torch.no_grad():
            answers = torch.stack([model(atoms, bonds) for atoms, bonds, _ in held])
            truth = torch.stack([sticks for *_, sticks in held])
            run.log(loss=criterion(answers, truth), stage="val")
    run.finish()
