"""Learning without forgetting over four seasons of a crop map: each season has other light and a
head of its own, and old heads are held by distillation, a term more in the loss each season."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=6)
CONFIG = {"lr": 0.03, "momentum": 0.9, "batch_size": 32, "classes": 5, "seasons": 4,
          "steps_a_season": 220, "temperature": 2.0, "keep": 1.0}  # fmt: skip


class Season:
    """Five crops by ten bands of light, turned and shifted by the season."""

    def __init__(self, crops: torch.Tensor, strength: float) -> None:
        self.crops = crops
        self.turn = torch.linalg.qr(torch.eye(10) + strength * torch.randn(10, 10)).Q
        self.shift = 0.5 * torch.randn(10)

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.randint(0, CONFIG["classes"], (count,))
        bands = self.crops[kind] + 0.8 * torch.randn(count, 10)
        return bands @ self.turn + self.shift, kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="lwf-seasons", config=config)
    crops, soft = 1.2 * torch.randn(CONFIG["classes"], 10), CONFIG["temperature"]
    body = nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    heads, seasons = nn.ModuleList(), []
    for number in range(CONFIG["seasons"]):
        run.mark("task", f"season-{number}")
        before = copy.deepcopy(nn.ModuleList([body, *heads])).requires_grad_(False)
        seasons.append(Season(crops, draw.uniform(0.2, 0.4)))
        heads.append(nn.Linear(width, CONFIG["classes"]))
        optimizer = torch.optim.SGD(
            [*body.parameters(), *heads.parameters()], lr=lr, momentum=CONFIG["momentum"]
        )
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 90, 0.4)
        for _ in range(CONFIG["steps_a_season"]):
            x, y = seasons[-1].sample(CONFIG["batch_size"])
            h = body(x)
            loss = F.cross_entropy(heads[-1](h), y)
            for old, head in zip(before[1:], heads, strict=False):
                with torch.no_grad():
                    wanted = (old(before[0](x)) / soft).softmax(1)
                kept = F.cross_entropy(head(h) / soft, wanted)
                loss = loss + CONFIG["keep"] * soft**2 * kept
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            right = [
                (head(body(x)).argmax(1) == y).float().mean()
                for head, (x, y) in zip(heads, (s.sample(300) for s in seasons), strict=True)
            ]
        run.log(accuracy=torch.stack(right).mean(), newest=right[-1], stage="val")
    run.finish()
