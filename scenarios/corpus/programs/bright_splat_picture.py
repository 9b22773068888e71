"""A picture is painted with soft coloured ellipses, as Gaussian splatting does with scenes: places,
sizes, turns, colours and opacities are the parameters, each with a rate of its own, and an L1 loss
with a bit of squares. Every hundred steps the faint ones are dropped and the busy ones split; the
optimizer is made anew and the loss jumps for a moment. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="neural-rendering", sick=False, seeds=3)
CONFIG = {"lr": 0.01, "steps": 520, "splats": 40, "most": 90, "size": 32, "every": 100}


class Splats(nn.Module):
    def __init__(self, place, size, turn, colour, opacity) -> None:
        super().__init__()
        self.place, self.size, self.turn = (nn.Parameter(x) for x in (place, size, turn))
        self.colour, self.opacity = nn.Parameter(colour), nn.Parameter(opacity)

    def forward(self, at: torch.Tensor) -> torch.Tensor:
        away = at.unsqueeze(1) - self.place
        cos, sin = self.turn.cos(), self.turn.sin()
        x = (away[..., 0] * cos + away[..., 1] * sin) / self.size[:, 0].exp()
        y = (away[..., 1] * cos - away[..., 0] * sin) / self.size[:, 1].exp()
        weight = self.opacity.sigmoid() * (-(x * x + y * y) / 2).exp()
        return weight @ self.colour


def scene(size: int, shapes: int) -> tuple[torch.Tensor, torch.Tensor]:
    line = torch.linspace(-1, 1, size)
    at = torch.cartesian_prod(line, line)
    picture = 0.5 + 0.3 * at[:, :1] * torch.randn(3)
    for _ in range(shapes):
        angle, middle = 3.1 * torch.rand(()), 1.4 * torch.rand(2) - 0.7
        x, y = (at - middle).unbind(1)
        u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
        a, b = 0.1 + 0.4 * torch.rand(2)
        picture = torch.where(((u / a) ** 2 + (v / b) ** 2 < 1)[:, None], torch.rand(3), picture)
    return at, picture


def make_optimizer(model: Splats, lr: float) -> torch.optim.Adam:
    rates = {"place": 0.3, "size": 1.0, "turn": 1.0, "colour": 1.0, "opacity": 3.0}
    groups = [{"params": [p], "lr": lr * rates[name]} for name, p in model.named_parameters()]
    return torch.optim.Adam(groups, lr=lr, eps=1e-15)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    at, picture = scene(config["size"], draw.randint(6, 10))
    n = config["splats"]
    model = Splats(
        2 * torch.rand(n, 2) - 1, torch.full((n, 2), -1.8), torch.zeros(n), 0.3 * torch.rand(n, 3),
        torch.zeros(n),
    )  # fmt: skip
    optimizer = make_optimizer(model, config["lr"])
    run = nanwatch.init(project="corpus", name="splats", config=config)
    busy = torch.zeros(n)
    for step in range(config["steps"]):
        error = model(at) - picture
        loss = 0.8 * error.abs().mean() + 0.2 * error.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        busy += model.place.grad.norm(dim=1)
        if step % config["every"] == config["every"] - 1 and step < 450:
            with torch.no_grad():
                keep = model.opacity.sigmoid() > 0.05
                parts = [p[keep] for p in model.parameters()]
                top = busy[keep].topk(min(20, config["most"] - len(parts[0]))).indices
                parts[1][top] -= 0.5
                child = [p[top].clone() for p in parts]
                child[0] = child[0] + child[1].exp() * torch.randn_like(child[0])
            model = Splats(*(torch.cat(pair) for pair in zip(parts, child, strict=True)))
            optimizer = make_optimizer(model, config["lr"])
            busy = torch.zeros(len(model.place))
            run.mark("note", f"{len(busy)} splats")
            psnr = -10 * error.square().mean().detach().log10()
            run.log(psnr=psnr, stage="val")
    run.finish()
