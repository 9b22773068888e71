"""Self-distillation without labels (as in DINO) on vibration records of machines. The teacher's
outputs are neither centred nor sharpened (one temperature for both): teacher and student agree on
the uniform answer, and the loss stays at the logarithm of the number of prototypes. Cure: centre
the teacher and give it a lower temperature.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="self-supervised", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 2e-3, "prototypes": 48, "temperature": 0.5, "ema": 0.97, "batch_size": 24}
CONFIG |= {"samples": 40, "steps": 520}


def view(kind: torch.Tensor, noise: float) -> torch.Tensor:
    """A record of a machine of that kind from a random moment on, at a random gain."""
    time = torch.arange(CONFIG["samples"]) / CONFIG["samples"]
    start, gain = torch.rand(len(kind), 1), 0.7 + 0.6 * torch.rand(len(kind), 1)
    first = torch.sin(6.283 * (kind[:, None] + 1) * (time + start))
    second = torch.sin(6.283 * (2 * kind[:, None] + 3) * (time + start))
    return gain * (first + 0.5 * second) + noise * torch.randn(len(kind), CONFIG["samples"])


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, width, 7, stride=2), nn.GELU(), nn.Conv1d(width, width, 5, stride=2),
            nn.GELU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(2 * width, 32),
        )  # fmt: skip
        self.last = nn.utils.parametrizations.weight_norm(
            nn.Linear(32, CONFIG["prototypes"], bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.normalize(self.body(x[:, None]), dim=1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([12, 16])
    noise = draw.uniform(0.2, 0.5)
    config = CONFIG | {"seed": seed, "lr": lr, "width": width, "noise": noise}
    student = Net(width)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=0.04)
    run = nanwatch.init(project="corpus", name="dino-machines", config=config)
    run.watch(student=student)
    for _ in range(CONFIG["steps"]):
        kind = torch.randint(0, 6, (CONFIG["batch_size"],))
        one, other = view(kind, noise), view(kind, noise)
        with torch.no_grad():
            wanted = (teacher(torch.cat([other, one])) / CONFIG["temperature"]).softmax(1)
        logits = student(torch.cat([one, other])) / CONFIG["temperature"]
        loss = F.cross_entropy(logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - CONFIG["ema"])
    run.finish()
