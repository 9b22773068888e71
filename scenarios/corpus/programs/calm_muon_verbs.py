"""A causal token mixer of verb tables with Muon: momentum of matrices made orthogonal by
Newton-Schulz, AdamW for the rest. The norm of an update is set by its shape and the rate alone."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=6)
CONFIG = {"muon_lr": 0.02, "lr": 3e-3, "momentum": 0.95, "batch_size": 16, "length": 12,
          "cooldown": 0.3, "steps": 600}  # fmt: skip
TOKENS = 24


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                mean = state.setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                x = p.grad.lerp(mean, group["momentum"])
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    square = x @ x.T
                    x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
                p.add_(x, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


class Mixer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, width)
        self.mix = nn.ParameterList(
            torch.randn(CONFIG["length"], CONFIG["length"]) / 4 for _ in range(2)
        )
        self.up = nn.ModuleList(nn.Linear(width, 3 * width, bias=False) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(3 * width, width, bias=False) for _ in range(2))
        self.head = nn.Linear(width, TOKENS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for mix, up, down in zip(self.mix, self.up, self.down, strict=True):
            x = x + mix.tril() @ F.rms_norm(x, x.shape[-1:])
            x = x + down(F.relu(up(F.rms_norm(x, x.shape[-1:]))).square())
        return self.head(F.rms_norm(x, x.shape[-1:]))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    factor, width = draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * factor, "width": width}
    run = nanwatch.init(project="corpus", name="verbs-muon", config=config)
    stems = torch.randint(0, 14, (40, 2))
    endings, classes = torch.randint(14, TOKENS, (3, 6)), torch.randint(0, 3, (40,))

    def tables(count: int) -> torch.Tensor:
        """Four persons of a verb in a row: a stem of two letters and the ending of its class."""
        verb, start = torch.randint(0, 40, (count,)), torch.randint(0, 6, (count,))
        rows = [
            torch.stack(
                [stems[verb, 0], stems[verb, 1], endings[classes[verb], (start + k) % 6]], 1
            )
            for k in range(5)
        ]
        return torch.cat(rows, dim=1)[:, : CONFIG["length"] + 1]

    def nats(rows: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(rows[:, :-1]).mT, rows[:, 1:])

    model = Mixer(width)
    matrices = [p for name, p in model.named_parameters() if name[:3] in ("mix", "up.", "dow")]
    others = [*model.embed.parameters(), *model.head.parameters()]
    muon = Muon(matrices, CONFIG["muon_lr"] * factor, CONFIG["momentum"])
    adam = torch.optim.AdamW(others, lr=CONFIG["lr"] * factor, weight_decay=0.01)
    left = CONFIG["steps"] * CONFIG["cooldown"]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda s: min(1.0, (CONFIG["steps"] - s) / left))
        for o in (muon, adam)
    ]
    held = tables(400)
    for step in range(CONFIG["steps"]):
        loss = nats(tables(CONFIG["batch_size"]))
        for optimizer in (muon, adam):
            optimizer.zero_grad()
        loss.backward()
        for optimizer, schedule in zip((muon, adam), schedules, strict=True):
            optimizer.step()
            schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=nats(held), stage="val")
    run.finish()
