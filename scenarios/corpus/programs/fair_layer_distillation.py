"""A recurrent tagger is distilled in two stages: first the student's states imitate the teacher's,
then its answers at temperature 2 join in, and the loss jumps to a new scale."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=False, seeds=6)
CONFIG = {"teacher_lr": 5e-3, "teacher_steps": 250, "lr": 4e-3, "states": 200, "answers": 300,
          "batch_size": 24, "temperature": 2.0, "max_norm": 1.0, "tags": 5,
          "length": 10}  # fmt: skip


class Tagger(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.body = nn.GRU(12, width, batch_first=True)
        self.head = nn.Linear(width, CONFIG["tags"])

    def forward(self, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, _ = self.body(self.embed(words))
        return self.head(states), states


class Text:
    """A tag depends on the word and the tag before it; one in twenty is a mistake."""

    def __init__(self) -> None:
        self.rule = torch.randint(0, CONFIG["tags"], (20, CONFIG["tags"]))

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        words = torch.randint(0, 20, (count, CONFIG["length"]))
        tags, last = [], torch.zeros(count, dtype=torch.long)
        for place in range(CONFIG["length"]):
            last = self.rule[words[:, place], last]
            tags.append(last)
        tags = torch.stack(tags, dim=1)
        wrong = torch.rand(tags.shape) < 0.05
        return words, torch.where(wrong, torch.randint_like(tags, CONFIG["tags"]), tags)


def stepped(optimizer: torch.optim.Optimizer, loss: torch.Tensor, model: nn.Module) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
    optimizer.step()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 20])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="layer-distillation", config=config)
    text, teacher, student = Text(), Tagger(40), Tagger(width)
    bridge, soft = nn.Linear(width, 40), CONFIG["temperature"]
    optimizer = torch.optim.Adam(teacher.parameters(), lr=CONFIG["teacher_lr"])
    run.mark("task", "teacher")
    for _ in range(CONFIG["teacher_steps"]):
        words, tags = text.sample(CONFIG["batch_size"])
        logits, _ = teacher(words)
        stepped(optimizer, F.cross_entropy(logits.flatten(0, 1), tags.flatten()), teacher)
    teacher.requires_grad_(False).eval()
    run.mark("task", "states")
    both = nn.ModuleList([student, bridge])
    optimizer = torch.optim.Adam(both.parameters(), lr=lr)
    for step in range(CONFIG["states"] + CONFIG["answers"]):
        words, tags = text.sample(CONFIG["batch_size"])
        wanted, seen = teacher(words)
        logits, states = student(words)
        loss = F.mse_loss(bridge(states), seen)
        if step == CONFIG["states"]:
            run.mark("task", "answers")
        if step >= CONFIG["states"]:
            answers = F.kl_div(
                (logits / soft).log_softmax(2).flatten(0, 1),
                (wanted / soft).log_softmax(2).flatten(0, 1),
                log_target=True,
                reduction="batchmean",
            )
            truth = F.cross_entropy(logits.flatten(0, 1), tags.flatten())
            loss = loss + soft**2 * answers + 0.5 * truth
        stepped(optimizer, loss, both)
        if step % 100 == 99:
            words, tags = text.sample(200)
            with torch.no_grad():
                run.log(agree=(student(words)[0].argmax(2) == tags).float().mean(), stage="val")
    run.finish()
