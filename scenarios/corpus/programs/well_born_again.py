"""Born-again networks: a teacher, then two generations of students of the same size, each of which
starts anew and learns from the last one's soft answers at a temperature of 4, times 16."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "batch_size": 40, "temperature": 4.0, "hard_weight": 0.3, "generations": 3,
          "epochs": 12, "rows": 800}  # fmt: skip


def examples(count: int, centres: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.randint(0, len(centres), (count,))
    side = torch.randint(0, centres.shape[1], (count,))
    return centres[kind, side] + noise * torch.randn(count, centres.shape[2]), kind


def student(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(12, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Dropout(0.1),
        nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 6),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="born-again", config=config)
    centres, noise = torch.randn(6, 3, 12), draw.uniform(0.5, 0.7)
    x, y = examples(CONFIG["rows"], centres, noise)
    test, wanted = examples(600, centres, noise)
    teacher, warmth = None, CONFIG["temperature"]
    for generation in range(CONFIG["generations"]):
        run.mark("task", f"generation {generation}", generation=generation)
        model = student(hidden)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.02)
        batches = CONFIG["rows"] // CONFIG["batch_size"]
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["epochs"] * batches)
        for epoch in range(CONFIG["epochs"]):
            for rows in torch.randperm(len(x)).split(CONFIG["batch_size"]):
                logits = model(x[rows])
                loss = F.cross_entropy(logits, y[rows])
                if teacher is not None:
                    with torch.no_grad():
                        soft = (teacher(x[rows]) / warmth).log_softmax(1)
                    guess = (logits / warmth).log_softmax(1)
                    match = F.kl_div(guess, soft, reduction="batchmean", log_target=True)
                    loss = CONFIG["hard_weight"] * loss + warmth**2 * match
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            if epoch % 3 == 2:
                model.eval()
                with torch.no_grad():
                    right = model(test).argmax(1) == wanted
                model.train()
                run.log(accuracy=right.float().mean(), stage="val")
        teacher = model.eval()
    run.finish()
