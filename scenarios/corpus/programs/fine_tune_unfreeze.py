"""Pretraining on one task, then a new head on a frozen body, then all of it at a rate of 1e-5: the
loss jumps at each stage, and updates are a millionth of the weights at the end."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=7)
CONFIG = {"lr": 3e-3, "head_lr": 3e-3, "fine_lr": 1e-5, "batch_size": 32, "steps": 350}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="fine-tune", config=config)
    world = nn.Sequential(nn.Linear(16, 6), nn.Tanh()).requires_grad_(False)
    old, new = torch.randn(6, 8), torch.randn(6, 3)
    body = nn.Sequential(nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
    old_head, head = nn.Linear(hidden, 8), nn.Linear(hidden, 3)

    def batch(count: int, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 16)
        return x, (world(3 * x) @ labels).argmax(1)

    def stage(top: nn.Module, labels: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(CONFIG["steps"]):
            x, label = batch(CONFIG["batch_size"], labels)
            loss = F.cross_entropy(top(body(x)), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        x, label = batch(1000, labels)
        with torch.no_grad():
            right = top(body(x)).argmax(1) == label
        run.log(accuracy=right.float().mean(), stage="val")

    run.mark("task", "pretrain")
    everything = [*body.parameters(), *old_head.parameters()]
    stage(old_head, old, torch.optim.AdamW(everything, lr=lr))
    run.mark("task", "head on a frozen body")
    body.requires_grad_(False)
    stage(head, new, torch.optim.AdamW(head.parameters(), lr=CONFIG["head_lr"]))
    run.mark("task", "fine-tune everything")
    body.requires_grad_(True)
    everything = [*body.parameters(), *head.parameters()]
    stage(head, new, torch.optim.AdamW(everything, lr=CONFIG["fine_lr"]))
    run.finish()
