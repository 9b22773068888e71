"""A small language model is to forget some phrases (unlearning) by plain gradient ascent: their
loss has no upper bound, and there is no term for the phrases to keep. After some dozen steps the
model is ruined for all. Cure: a bounded loss (NPO) with a term for the rest, or a short stop.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"pretrain_lr": 5e-3, "pretrain_steps": 200, "lr": 1e-3}
CONFIG |= {"words": 40, "length": 10, "batch_size": 16, "width": 32, "steps": 450}


class Model(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["words"], width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, CONFIG["words"])

    def nats(self, text: torch.Tensor) -> torch.Tensor:
        states, _ = self.gru(self.embed(text[:, :-1]))
        return F.cross_entropy(self.out(states).flatten(0, 1), text[:, 1:].flatten())


def phrases(habits: torch.Tensor, count: int) -> torch.Tensor:
    found = [torch.randint(0, CONFIG["words"], (count,))]
    for _ in range(CONFIG["length"] - 1):
        found.append(torch.multinomial(habits[found[-1]], 1).squeeze(1))
    return torch.stack(found, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    config = CONFIG | {"seed": seed, "lr": lr, "width": draw.choice([32, 40])}
    habits = (2.2 * torch.randn(CONFIG["words"], CONFIG["words"])).softmax(1)
    secret = (2.2 * torch.randn(CONFIG["words"], CONFIG["words"])).softmax(1)
    keep, forget, held = phrases(habits, 1200), phrases(secret, 120), phrases(habits, 64)
    model = Model(config["width"])
    run = nanwatch.init(project="corpus", name="forget-phrases", config=config)
    run.watch(model)
    run.mark("task", "pretraining")
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG["pretrain_lr"])
    both = torch.cat([keep, forget])
    for _ in range(CONFIG["pretrain_steps"]):
        loss = model.nats(both[torch.randint(0, len(both), (CONFIG["batch_size"],))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.mark("task", "unlearning")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        if step % 25 == 0:
            with torch.no_grad():
                run.log(loss=model.nats(held), stage="val")
        loss = -model.nats(forget[torch.randint(0, len(forget), (CONFIG["batch_size"],))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
