"""A Fourier neural operator forecasts sea temperatures, rolled out for three steps. Land is
filled with 9.97e36 in the files (the default of netCDF) and masked by a fixed map; in one file
ice has been added to the fill, so that a few cells of some batches are 9.97e36. Cure: mask by
value.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="operator", sick=True, cause="bad-batch")
CONFIG = {"lr": 2e-3, "modes": 4, "width": 6, "side": 12, "rollout": 3, "batch_size": 6}
CONFIG |= {"files": 10, "steps_each": 60}
FILL = 9.96921e36


class Operator(nn.Module):
    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.lift, self.back = nn.Conv2d(2, width, 1), nn.Conv2d(width, 1, 1)
        self.near, self.modes = nn.Conv2d(width, width, 1), modes
        shape = (width, width, modes, modes, 2)
        self.far = nn.Parameter(torch.randn(shape) / width / modes)

    def forward(self, field: torch.Tensor, land: torch.Tensor) -> torch.Tensor:
        h = self.lift(torch.cat([field, land.expand_as(field)], dim=1))
        spectrum = torch.fft.rfft2(h, norm="ortho")
        far, m = torch.view_as_complex(self.far), self.modes
        kept = torch.einsum("bixy,ioxy->boxy", spectrum[..., :m, :m], far)
        kept = F.pad(kept, (0, spectrum.shape[3] - m, 0, spectrum.shape[2] - m))
        h = F.gelu(self.near(h) + torch.fft.irfft2(kept, s=h.shape[2:], norm="ortho"))
        return field + self.back(h)


def seas(count: int, side: int, times: int, speed: float) -> torch.Tensor:
    """Anomalies [count, times, side, side] of temperature that drift eastwards and fade."""
    x, y = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    t = torch.arange(times).view(1, -1, 1, 1)
    field = torch.zeros(count, times, side, side)
    for k in (1, 2, 3):
        phase, size = 6.3 * torch.rand(2, count, 1, 1, 1), torch.randn(count, 1, 1, 1) / k
        wave = torch.cos(6.28 * k * (y - speed * t) / side + phase[0])
        field = field + size * wave * torch.cos(6.28 * x / side + phase[1]) * 0.97**t
    return field


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    side, icy, speed = config["side"], draw.randrange(4, 9), draw.uniform(0.6, 1.2)
    land = (F.avg_pool2d(torch.rand(1, 1, side + 2, side + 2), 3, 1) > 0.57).float()
    model = Operator(config["width"], config["modes"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sea-temperatures", config=config)
    broken = 0
    for file in range(config["files"]):
        for _ in range(config["steps_each"]):
            truth = seas(config["batch_size"], side, config["rollout"] + 1, speed)
            if file == icy and draw.random() < 0.2:
                truth[draw.randrange(config["batch_size"]), :, :2, draw.randrange(side)] = FILL
            truth = torch.where(land.bool(), 0.0, truth)
            field, loss = truth[:, :1], torch.zeros(())
            for t in range(1, config["rollout"] + 1):
                field = model(field, land)
                error = (field[:, 0] - truth[:, t]) * (1 - land[:, 0])
                loss = loss + error.square().mean() / config["rollout"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
