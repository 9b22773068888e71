"""A small language model of recipes is tuned to prefer good endings (as in DPO), but
the margin is climbed as it is, without the logarithm of its sigmoid: making bad endings ever less
probable pays for ever, logits grow, and good endings are lost too. Cure: `F.logsigmoid`, a
smaller rate.
"""

from __future__ import annotations

import copy
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="preference", sick=True, cause="logit-growth", seeds=4)
CONFIG = {"lr": 2e-3, "beta": 0.1, "sft_lr": 5e-3, "sft_steps": 150, "steps": 330}
CONFIG |= {"batch_size": 16, "words": 24, "length": 12, "width": 48}


class Model(nn.Module):
    """The next word from the three before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["words"], 16)
        self.net = nn.Sequential(
            nn.Linear(48, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, CONFIG["words"]),
        )  # fmt: skip

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Log-probability of each word but the first three."""
        x = self.embed(text)
        x = torch.cat([x[:, :-3], x[:, 1:-2], x[:, 2:-1]], dim=2)
        return self.net(x).log_softmax(2).gather(2, text[:, 3:, None]).squeeze(2)


def recipes(table: torch.Tensor, count: int) -> torch.Tensor:
    text = [torch.randint(0, CONFIG["words"], (count,))]
    for _ in range(CONFIG["length"] - 1):
        text.append(table[text[-1]].multinomial(1).squeeze(1))
    return torch.stack(text, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([40, 48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    table = (2.5 * torch.randn(config["words"], config["words"])).softmax(1)
    held = recipes(table, 200)
    model = Model(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["sft_lr"])
    run = nanwatch.init(project="corpus", name="recipes-dpo", config=config)
    run.mark("task", "imitation")
    for _ in range(config["sft_steps"]):
        loss = -model(recipes(table, config["batch_size"])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.mark("task", "preference")
    reference = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in range(config["steps"]):
        good = recipes(table, config["batch_size"])
        bad = good.clone()
        spoilt = torch.rand(bad[:, 6:].shape) < 0.4
        bad[:, 6:][spoilt] = recipes(table, len(bad))[:, 6:][spoilt]
        margin = (model(good) - model(bad)).sum(1)
        with torch.no_grad():
            before = (reference(good) - reference(bad)).sum(1)
        loss = -(config["beta"] * (margin - before)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            with torch.no_grad():
                run.log(loss=-model(held).mean(), stage="val")
    run.finish()
