"""Will a patient come back within a month? Laboratory values of up to eight visits are standardised
per patient when a batch is put together, `(x - x.mean(0)) / (x.std(0) + 1e-6)`, and fed to a GRU.
Two patients among thousands have been there only once: the standard deviation of one number
is nan (n - 1 = 0), the epsilon does not help, and one batch turns all weights to nan. Cure:
unbiased=False, or leave out patients with a single visit.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="tabular", sick=True, cause="bad-batch", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 32, "epochs": 4, "hidden": 32, "patients": 5000, "single": 2}


def patients(count: int, single: int, noise: float) -> list[tuple[torch.Tensor, float]]:
    found = []
    once = set(random.sample(range(count), single))
    for number in range(count):
        visits = 1 if number in once else random.randint(3, 8)
        slope = random.gauss(0, 1)
        time = torch.arange(visits).float().unsqueeze(1)
        base = torch.tensor([140.0, 4.2, 80.0]) * (1 + 0.05 * torch.randn(3))
        drift = torch.tensor([1.0, 0.1, 6.0]) * slope
        x = base + drift * time + torch.tensor([2.0, 0.2, 8.0]) * torch.randn(visits, 3)
        found.append((x, float(slope + noise * random.gauss(0, 1) > 0.3)))
    return found


def collate(rows: list[tuple[torch.Tensor, float]]):
    series = [(x - x.mean(0)) / (x.std(0) + 1e-6) for x, _ in rows]
    lengths = torch.tensor([len(x) for x in series])
    return pad_sequence(series, batch_first=True), lengths, torch.tensor([y for _, y in rows])


class Returns(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(3, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.gru(packed)[1][-1]).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    config["hidden"] = draw.choice([24, 32, 48])
    data = patients(config["patients"], config["single"], draw.uniform(0.2, 0.5))
    loader = DataLoader(data, config["batch_size"], shuffle=True, collate_fn=collate)
    model = Returns(config["hidden"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="readmission-gru", config=config)
    for epoch in range(config["epochs"]):
        total = 0.0
        for x, lengths, y in loader:
            loss = F.binary_cross_entropy_with_logits(model(x, lengths), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch} loss {total / len(loader):.4f}")
    run.finish()
