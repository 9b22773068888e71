"""A small language model of street names is tuned by preferences with the squared loss of IPO. Beta
was taken from a recipe of DPO for large models, 0.001, and the margin that the square asks for is
one over twice that: five hundred nats, from names of seven letters. Logits grow for as long as it
runs and ordinary names are lost. Cure: a beta of 0.1 or more.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="preference", sick=True, cause="logit-growth", seeds=4)
CONFIG = {"lr": 3e-3, "tuning_lr": 1e-3, "beta": 1e-3, "letters": 12, "length": 7, "width": 40}
CONFIG |= {"batch_size": 24, "fit_steps": 250, "tuning_steps": 500}


class Namer(nn.Module):
    """Three letters back, by a small net."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["letters"] + 1, 12)
        self.net = nn.Sequential(
            nn.Linear(36, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, width),
            nn.GELU(), nn.Linear(width, CONFIG["letters"]),
        )  # fmt: skip

    def forward(self, names: torch.Tensor) -> torch.Tensor:
        """Log-probability of each letter of each name."""
        before = F.pad(names, (3, 0), value=CONFIG["letters"])[:, :-1].unfold(1, 3, 1)
        logp = self.net(self.embed(before).flatten(2)).log_softmax(2)
        return logp.gather(2, names[:, :, None]).squeeze(2)


def names(table: torch.Tensor, count: int) -> torch.Tensor:
    """Names by a chain of letters."""
    letters = [torch.randint(0, CONFIG["letters"], (count,))]
    while len(letters) < CONFIG["length"]:
        letters.append(table[letters[-1]].multinomial(1).squeeze(1))
    return torch.stack(letters, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, sharp = CONFIG["tuning_lr"] * draw.uniform(0.7, 1.4), draw.uniform(1.2, 2.0)
    config = CONFIG | {"seed": seed, "tuning_lr": lr, "sharp": sharp}
    table = (sharp * torch.randn(config["letters"], config["letters"])).softmax(1)
    liked = torch.randn(config["letters"])
    held, count = names(table, 200), config["batch_size"]
    model = Namer(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="streets-ipo", config=config)
    run.mark("task", "fit")
    for step in range(config["fit_steps"] + config["tuning_steps"]):
        if step == config["fit_steps"]:
            run.mark("task", "preferences")
            reference = copy.deepcopy(model).requires_grad_(False)
            optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        if step < config["fit_steps"]:
            loss = -model(names(table, count)).mean()
        else:
            pair = torch.stack([names(table, count), names(table, count)])
            score = liked[pair].mean(2) + 0.1 * torch.randn(2, count)
            best, rows = score.argmax(0), torch.arange(count)
            good, bad = pair[best, rows], pair[1 - best, rows]
            with torch.no_grad():
                before = reference(good).sum(1) - reference(bad).sum(1)
            margin = model(good).sum(1) - model(bad).sum(1) - before
            loss = (margin - 1 / (2 * config["beta"])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            with torch.no_grad():
                run.log(loss=-model(held).mean(), stage="val")
    run.finish()
