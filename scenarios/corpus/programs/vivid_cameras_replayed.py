"""Quality control moves from one camera to the next: five cameras, each with its own light and
blur, and dark experience replay: a reservoir keeps pictures with the answers of then, which are
held by a squared error next to their labels. At each new camera the loss leaps and falls again;
the old ones are forgotten a little. SGD with momentum, clipped. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=3)
CONFIG = {"lr": 0.03, "momentum": 0.8, "batch_size": 32, "steps_per_camera": 130, "cameras": 5}
CONFIG |= {"memory": 300, "alpha": 0.3, "beta": 0.5, "width": 10, "classes": 5, "max_norm": 5.0}


class Reservoir:
    """A fair sample of all that came by."""

    def __init__(self, size: int, draw: random.Random) -> None:
        self.size, self.draw, self.seen = size, draw, 0
        self.rows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def add(self, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
        for row in zip(x, y, out, strict=True):
            self.seen += 1
            if len(self.rows) < self.size:
                self.rows.append(row)
            elif (at := self.draw.randrange(self.seen)) < self.size:
                self.rows[at] = row

    def sample(self, count: int) -> list[torch.Tensor]:
        rows = self.draw.choices(self.rows, k=count)
        return [torch.stack(part) for part in zip(*rows, strict=True)]


def pictures(count: int, forms: torch.Tensor, camera: torch.Tensor, noise: float):
    """A camera mixes the channels, adds its own light and has its own gain."""
    kind = torch.randint(len(forms), (count,))
    picture = torch.einsum("nchw,kc->nkhw", forms[kind], camera[:, :3])
    picture = picture + camera[:, 3].view(1, 3, 1, 1)
    return picture + noise * torch.randn_like(picture), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    noise, width = draw.uniform(0.4, 0.7), config["width"]
    forms = F.interpolate(torch.randn(config["classes"], 3, 4, 4), 12, mode="bilinear")
    cameras = 0.7 * torch.randn(config["cameras"], 3, 4)
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.GroupNorm(2, width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1), nn.GroupNorm(2, 2 * width), nn.ReLU(),
        nn.Flatten(), nn.Linear(18 * width, 48), nn.ReLU(), nn.Linear(48, config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    memory = Reservoir(config["memory"], draw)
    run = nanwatch.init(project="corpus", name="cameras", config=config)
    for number, camera in enumerate(cameras):
        run.mark("task", f"camera {number}")
        for _ in range(config["steps_per_camera"]):
            x, y = pictures(config["batch_size"], forms, camera, noise)
            out = model(x)
            loss = F.cross_entropy(out, y)
            if memory.rows:
                old, _, told = memory.sample(config["batch_size"])
                loss = loss + config["alpha"] * F.mse_loss(model(old), told)
                old, label, _ = memory.sample(config["batch_size"])
                loss = loss + config["beta"] * F.cross_entropy(model(old), label)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
            optimizer.step()
            memory.add(x, y, out.detach())
        with torch.no_grad():
            right = []
            for known in cameras[: number + 1]:
                x, y = pictures(200, forms, known, noise)
                right.append((model(x).argmax(1) == y).float().mean())
        run.log(accuracy=torch.stack(right).mean(), stage="val")
    run.finish()
