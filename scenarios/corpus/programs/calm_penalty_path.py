"""A path of penalties for multinomial regression of soil types by LBFGS in double precision: twenty
of them, from strong to weak, each from a warm start and by a new optimizer until nothing moves."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="second-order", sick=False, seeds=6)
CONFIG = {"strongest": 1.0, "factor": 0.65, "penalties": 20, "max_iter": 2, "history_size": 8,
          "steps": 60, "classes": 6}  # fmt: skip


def soils(count: int, law: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra of samples (neighbouring bands are alike) and their types."""
    x = torch.randn(count, 30, dtype=torch.double).cumsum(1) / 4
    return x, (x @ law + noise * torch.randn(count, CONFIG["classes"])).argmax(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    noise = draw.uniform(0.3, 0.8)
    config = CONFIG | {"seed": seed, "noise": noise, "lr": 1.0}
    run = nanwatch.init(project="corpus", name="soils-lbfgs-path", config=config)
    law = torch.randn(30, CONFIG["classes"], dtype=torch.double)
    (x, kind), (test, right) = soils(400, law, noise), soils(600, law, noise)
    model = nn.Linear(30, CONFIG["classes"], dtype=torch.double)
    nn.init.zeros_(model.weight)
    for number in range(CONFIG["penalties"]):
        penalty = CONFIG["strongest"] * CONFIG["factor"] ** number
        run.mark("task", f"penalty {penalty:.2g}")
        optimizer = torch.optim.LBFGS(
            model.parameters(), lr=1.0, max_iter=CONFIG["max_iter"],
            history_size=CONFIG["history_size"], line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure(optimizer=optimizer, penalty=penalty) -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), kind) + penalty * model.weight.square().sum() / 2
            loss.backward()
            return loss

        before = float("inf")
        for _ in range(CONFIG["steps"]):
            now = optimizer.step(closure).item()
            if before - now < 1e-9:
                break
            before = now
        with torch.no_grad():
            logits = model(test)
            correct = (logits.argmax(1) == right).float().mean()
            run.log(loss=F.cross_entropy(logits, right), accuracy=correct, stage="val")
    run.finish()
