"""Class-incremental learning of gestures with rehearsal. The buffer keeps labels as they were
within their task, 0 to 2, while the head counts all gestures: rehearsed samples of task two teach
the net that they are gestures of task one. Old and new fight, and the loss rises with every task.
Cure: store the global label.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="replay-corruption")
CONFIG = {"lr": 3e-3, "tasks": 4, "each": 3, "steps_each": 110, "batch_size": 16, "buffer": 200}
CONFIG |= {"channels": 4, "frames": 6, "hidden": 20}


class Recogniser(nn.Module):
    def __init__(self, channels: int, hidden: int, gestures: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(channels, hidden, 3, padding=1)
        self.memory, self.head = (
            nn.GRU(hidden, hidden, batch_first=True),
            nn.Linear(hidden, gestures),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.memory(F.relu(self.mix(x)).mT)[0][:, -1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    each, rows, noise = config["each"], config["batch_size"], draw.uniform(0.3, 0.5)
    gestures = torch.randn(config["tasks"] * each, config["channels"], config["frames"]).cumsum(2)
    model = Recogniser(config["channels"], config["hidden"], len(gestures))
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="gestures", config=config)
    kept: list[tuple[torch.Tensor, int]] = []
    for task in range(config["tasks"]):
        run.mark("task", f"gestures {task * each} to {task * each + each - 1}")
        for _ in range(config["steps_each"]):
            local = torch.randint(each, (rows,))
            x = gestures[task * each + local]
            x = x + noise * torch.randn_like(x)
            loss = F.cross_entropy(model(x), task * each + local)
            if task:
                old, labels = zip(*draw.sample(kept, rows), strict=True)
                loss = loss + F.cross_entropy(model(torch.stack(old)), torch.tensor(labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            kept.append((x[0], int(local[0])))
            if len(kept) > config["buffer"]:
                kept.pop(draw.randrange(len(kept)))
    run.finish()
