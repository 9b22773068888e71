"""A recurrent model of a crane's load is trained in rounds, each with a new optimizer on what
was driven since. From the second round on the optimizer gets the rate of the planner (0.3)
instead of the model's own: what was learned is thrown away within some steps, and the gates stay
full. Cure: the model's rate in every round.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-model-based", sick=True, cause="lr-too-high-late", seeds=4)
CONFIG = {"lr": 4e-3, "planner_lr": 0.3, "rounds": 4, "steps_each": 130, "drives": 60}
CONFIG |= {"length": 14, "hidden": 32, "batch_size": 20}


def drive(count: int, length: int, rope: float, bold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations (count, length + 1, 3) and pushes (count, length, 1) of a trolley."""
    push = bold * torch.randn(count, length, 1).cumsum(1).clamp(-3, 3)
    state, seen = 0.5 * torch.randn(count, 4), []
    for at in range(length + 1):
        seen.append(state[:, [0, 1, 2]] + 0.02 * torch.randn(count, 3))
        place, speed, angle, spin = state.T
        force = push[:, min(at, length - 1), 0]
        bend = -9.8 / rope * torch.sin(angle) - force / rope - 0.2 * spin
        state = torch.stack(
            [place + 0.1 * speed, 0.9 * speed + 0.1 * force, angle + 0.1 * spin, spin + 0.1 * bend],
            dim=1,
        )
    return torch.stack(seen, dim=1), push


class World(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(4, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 3)

    def forward(self, seen: torch.Tensor, push: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(torch.cat([seen, push], dim=2))[0])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "planner_lr": CONFIG["planner_lr"] * draw.uniform(0.7, 1.4)}
    rope, world = draw.uniform(0.8, 1.5), World(config["hidden"])
    seen, push = drive(config["drives"], config["length"], rope, 0.3)
    run = nanwatch.init(project="corpus", name="crane-world-model", config=config)
    run.watch(world=world)
    for number in range(config["rounds"]):
        run.mark("task", f"round {number}")
        rate = config["lr"] if number == 0 else config["planner_lr"]
        optimizer = torch.optim.RMSprop(world.parameters(), lr=rate)
        for _ in range(config["steps_each"]):
            rows = torch.randint(len(seen), (config["batch_size"],))
            guess = world(seen[rows, :-1], push[rows])
            loss = F.mse_loss(guess, seen[rows, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        fresh = drive(config["drives"], config["length"], rope, 0.3 + 0.05 * number)
        seen, push = torch.cat([seen, fresh[0]]), torch.cat([push, fresh[1]])
    run.finish()
