"""A decision transformer imitates pickers of a warehouse, conditioned on the return still to come.
Returns are cents of a whole shift, tens of thousands, and go into the embedding as they are: beside
them states are nothing, attention looks at one token, and actions are guessed. Cure: divide the
returns by their scale.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-offline", sick=True, cause="reward-scale", seeds=4)
CONFIG = {"lr": 8e-4, "classes": 5, "states": 8, "length": 6, "width": 32, "batch_size": 16}
CONFIG |= {"steps": 520, "weight_decay": 1e-4, "max_norm": 0.25}


class Shifts:
    """Good pickers go to the shelf the state points at, poor ones to the one beside it."""

    def __init__(self, cents: float) -> None:
        self.shelves, self.cents = torch.randn(CONFIG["states"], CONFIG["classes"]), cents

    def sample(self, count: int) -> tuple[torch.Tensor, ...]:
        state = torch.randn(count, CONFIG["length"], CONFIG["states"])
        skill = torch.rand(count, 1)
        right = (state @ self.shelves).argmax(2)
        good = torch.rand(right.shape) < 0.5 + 0.5 * skill
        action = torch.where(good, right, (right + 1) % CONFIG["classes"])
        pay = self.cents * (1 + skill) * (action == right)
        return state, action, pay.flip(1).cumsum(1).flip(1) + 5 * self.cents * skill


class DecisionTransformer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_return, self.of_state = nn.Linear(1, width), nn.Linear(CONFIG["states"], width)
        self.place = nn.Parameter(0.02 * torch.randn(CONFIG["length"], width))
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, width)
        )
        self.out = nn.Linear(width, CONFIG["classes"])

    def forward(self, left: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.of_return(left[..., None]) + self.of_state(state) + self.place)
        q, k, v = (part[:, None] for part in self.qkv(x).chunk(3, dim=2))
        x = x + self.mix(F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, 0])
        return self.out(x + self.mlp(x))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, cents = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(4e3, 9e3)
    config = CONFIG | {"seed": seed, "lr": lr, "cents": cents}
    shifts, model = Shifts(cents), DecisionTransformer(CONFIG["width"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, 1.0, 60)
    run = nanwatch.init(project="corpus", name="picker-decisions", config=config)
    run.watch(model)
    for _ in range(CONFIG["steps"]):
        state, action, left = shifts.sample(CONFIG["batch_size"])
        loss = F.cross_entropy(model(left, state).flatten(0, 1), action.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        warm_up.step()
    run.finish()
