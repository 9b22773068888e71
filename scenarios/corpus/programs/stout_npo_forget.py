"""Unlearning by negative preference optimisation (NPO): a pretrained model of melodies forgets a
collection and keeps the rest. The loss jumps when the second stage begins, that of the forgotten
melodies rises on purpose and far, and both terms stay bounded.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=4)
CONFIG = {"pretrain_lr": 6e-3, "pretrain_steps": 350, "lr": 8e-4, "beta": 0.5, "forget": 0.7}
CONFIG |= {"notes": 24, "context": 3, "length": 12, "batch_size": 16, "steps": 350}


class Melody(nn.Module):
    """The next note from the three before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["notes"], 16)
        self.net = nn.Sequential(
            nn.Linear(16 * CONFIG["context"], width), nn.SiLU(), nn.LayerNorm(width),
            nn.Linear(width, CONFIG["notes"]),
        )  # fmt: skip

    def nats(self, notes: torch.Tensor) -> torch.Tensor:
        """Mean of each melody."""
        seen = self.embed(notes.unfold(1, CONFIG["context"], 1)[:, :-1]).flatten(2)
        logits, wanted = self.net(seen), notes[:, CONFIG["context"] :]
        return F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none").mean(1)


def melodies(steps: torch.Tensor, count: int) -> torch.Tensor:
    """A walk over the scale whose steps depend on the note."""
    found = [torch.randint(0, CONFIG["notes"], (count,))]
    for _ in range(CONFIG["length"] - 1):
        step = torch.multinomial(steps[found[-1]], 1).squeeze(1)
        found.append((found[-1] + step) % CONFIG["notes"])
    return torch.stack(found, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    keep, forget = (
        melodies((2.0 * torch.randn(CONFIG["notes"], 7)).softmax(1), count) for count in (1028, 150)
    )
    keep, held = keep[128:], keep[:128]
    model = Melody(width)
    run = nanwatch.init(project="corpus", name="melodies-npo", config=config)
    run.watch(model)
    run.mark("task", "pretraining")
    optimizer = torch.optim.Adam(model.parameters(), lr=CONFIG["pretrain_lr"])
    both = torch.cat([keep, forget])
    for _ in range(CONFIG["pretrain_steps"]):
        loss = model.nats(both[torch.randint(0, len(both), (CONFIG["batch_size"],))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.mark("task", "forgetting")
    reference = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    beta = CONFIG["beta"]
    for step in range(CONFIG["steps"]):
        kept = model.nats(keep[torch.randint(0, len(keep), (CONFIG["batch_size"],))]).mean()
        secret = forget[torch.randint(0, len(forget), (CONFIG["batch_size"],))]
        worse = model.nats(secret) - reference.nats(secret)
        loss = kept - CONFIG["forget"] * 2 / beta * F.logsigmoid(beta * worse).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            with torch.no_grad():
                run.log(loss=model.nats(held).mean(), forgotten=worse.mean(), stage="val")
    run.finish()
