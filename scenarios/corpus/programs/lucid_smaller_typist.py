"""A phone's keyboard: a large GRU learns to foretell the next letter, then a small one is distilled
from it at temperature 2, with a share of the true letters; both in one run. The teacher trains with
a step schedule and clipping at 1, the student with cosine. Its loss is on another scale and cannot
reach zero. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=False, seeds=3)
CONFIG = {"lr": 5e-3, "student_lr": 6e-3, "batch_size": 24, "length": 24, "teaching": 260}
CONFIG |= {"learning": 300, "letters": 27, "temperature": 2.0, "hard": 0.3, "max_norm": 1.0}


class Typist(nn.Module):
    def __init__(self, letters: int, width: int) -> None:
        super().__init__()
        self.letter = nn.Embedding(letters, 16)
        self.gru = nn.GRU(16, width, batch_first=True)
        self.out = nn.Linear(width, letters)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.letter(text))[0])


def messages(count: int, length: int, words: list[list[int]]) -> torch.Tensor:
    """Words from a list of sixty, the first ones more often, with a blank (0) between."""
    rows = []
    for _ in range(count):
        row: list[int] = []
        while len(row) < length:
            row += [*words[int(len(words) * random.random() ** 2)], 0]
        rows.append(row[:length])
    return torch.tensor(rows)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    letters, size, length = config["letters"], config["batch_size"], config["length"]
    words = [[draw.randint(1, letters - 1) for _ in range(draw.randint(2, 6))] for _ in range(60)]
    teacher, student = Typist(letters, 96), Typist(letters, draw.choice([24, 32]))
    run = nanwatch.init(project="corpus", name="typist", config=config)
    run.watch(teacher=teacher, student=student)
    held = messages(100, length, words)

    def look(model: Typist, scope: str) -> None:
        with torch.no_grad():
            out = model(held[:, :-1]).flatten(0, 1)
        run.log(loss=F.cross_entropy(out, held[:, 1:].flatten()), scope=scope, stage="val")

    optimizer = torch.optim.Adam(teacher.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 100, 0.4)
    for step in range(config["teaching"]):
        text = messages(size, length, words)
        loss = F.cross_entropy(teacher(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(teacher.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            look(teacher, "teacher")
    teacher.requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=config["student_lr"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["learning"])
    hot = config["temperature"]
    for step in range(config["learning"]):
        text = messages(size, length, words)
        told, said = teacher(text[:, :-1]).flatten(0, 1), student(text[:, :-1]).flatten(0, 1)
        soft = F.kl_div(
            F.log_softmax(said / hot, 1), F.log_softmax(told / hot, 1),
            reduction="batchmean", log_target=True,
        )  # fmt: skip
        hard = F.cross_entropy(said, text[:, 1:].flatten())
        loss = (1 - config["hard"]) * hot**2 * soft + config["hard"] * hard
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            look(student, "student")
    run.finish()
