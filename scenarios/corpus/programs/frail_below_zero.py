"""Two towers match questions to answers (softmax over the batch). The rate is set by hand, lr * (1
- step / total), and the training was prolonged by half without a new total: from there on the
rate is below zero, every step climbs, and what was learned is lost faster and faster. Cure:
`max(0.0, ...)`, or the true number of steps.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="retrieval", sick=True, cause="lr-too-high-late", seeds=4)
CONFIG = {"lr": 4e-3, "batch_size": 32, "total": 500, "steps": 750, "topics": 8, "words": 20}


def tower(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(CONFIG["words"], width), nn.Tanh(), nn.Linear(width, 12))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    noise = draw.uniform(0.2, 0.4)
    config = CONFIG | {"seed": seed, "lr": lr, "width": width, "noise": noise}
    asked = torch.randn(CONFIG["topics"], CONFIG["words"])
    answered = torch.randn(CONFIG["topics"], CONFIG["words"])
    questions, answers = tower(width), tower(width)
    optimizer = torch.optim.Adam([*questions.parameters(), *answers.parameters()], lr=lr)
    run = nanwatch.init(project="corpus", name="question-answers", config=config)
    for step in range(CONFIG["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / CONFIG["total"])
        meaning = torch.randn(CONFIG["batch_size"], CONFIG["topics"])
        x = meaning @ asked + noise * torch.randn(CONFIG["batch_size"], CONFIG["words"])
        y = meaning @ answered + noise * torch.randn(CONFIG["batch_size"], CONFIG["words"])
        left, right = F.normalize(questions(x)), F.normalize(answers(y))
        loss = F.cross_entropy(left @ right.T / 0.1, torch.arange(CONFIG["batch_size"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
