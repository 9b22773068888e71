"""DINO on strips of textures: a student matches the centred and sharpened answers of a slow teacher
on other crops. The loss starts near the logarithm of the outputs, and may rise as both sharpen."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="self-supervised", sick=False, seeds=6)
CONFIG = {"lr": 1.5e-3, "batch_size": 32, "outputs": 32, "student_heat": 0.1, "teacher_heat": 0.05,
          "ema": 0.98, "centre": 0.95, "max_norm": 3.0, "steps": 600}  # fmt: skip


def textures(count: int, kinds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Strips of 48 places: a sum of two waves whose lengths tell the kind."""
    kind = torch.randint(0, len(kinds), (count,))
    phase, place = 6.28 * torch.rand(count, 2, 1), torch.arange(48.0)
    return torch.sin(kinds[kind][:, :, None] * place + phase).sum(1), kind


def crop(strips: torch.Tensor) -> torch.Tensor:
    """24 places from somewhere, louder or softer, with noise."""
    at = torch.randint(0, 24, (len(strips), 1)) + torch.arange(24)
    x = strips.gather(1, at) * (0.8 + 0.4 * torch.rand(len(strips), 1))
    return x + 0.2 * torch.randn_like(x)


class Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.filters = nn.Linear(8, width)
        self.body = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.head = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, 16))
        self.last = nn.utils.parametrizations.weight_norm(
            nn.Linear(16, CONFIG["outputs"], bias=False)
        )

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(F.relu(self.filters(x.unfold(1, 8, 2))).mean(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.normalize(self.head(self.features(x)), dim=1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="textures-dino", config=config)
    kinds = 0.3 + 1.8 * torch.rand(8, 2)
    student = Encoder(width)
    teacher = copy.deepcopy(student).requires_grad_(False)
    centre = torch.zeros(CONFIG["outputs"])
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=0.04)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"], lr / 50)
    (known, kind), (tests, right) = textures(400, kinds), textures(400, kinds)
    for step in range(CONFIG["steps"]):
        strips, _ = textures(CONFIG["batch_size"], kinds)
        views = [crop(strips), crop(strips)]
        with torch.no_grad():
            answers = [teacher(view) for view in views]
        logp = [(student(view) / CONFIG["student_heat"]).log_softmax(1) for view in views]
        wanted = [((a - centre) / CONFIG["teacher_heat"]).softmax(1) for a in answers]
        loss = -((wanted[0] * logp[1]).sum(1) + (wanted[1] * logp[0]).sum(1)).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            centre = CONFIG["centre"] * centre + (1 - CONFIG["centre"]) * torch.cat(answers).mean(0)
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - CONFIG["ema"])
            if step % 100 == 99:
                ways = [F.normalize(teacher.features(x), dim=1) for x in (crop(known), crop(tests))]
                near = kind[(ways[1] @ ways[0].T).argmax(1)]
                run.log(nearest=(near == right).float().mean(), stage="val")
    run.finish()
