"""A VAE with eight categorical latents by the Gumbel softmax whose temperature falls from 1 to 0.4:
pictures of signs, a sum of binary cross-entropies per picture that is noisier as it cools."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vae", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "batch_size": 32, "latents": 8, "choices": 4, "cold": 0.4, "cool": 0.998,
          "steps": 1000}  # fmt: skip


def signs(count: int) -> torch.Tensor:
    """8x8 pixels: a frame, a bar, a dot and a corner, each in one of a few places."""
    rows, picture = torch.arange(count), torch.zeros(count, 8, 8)
    picture[rows, torch.randint(0, 8, (count,))] = 1
    picture[rows, :, torch.randint(0, 8, (count,))] = 1
    corner = torch.randint(0, 4, (count,))
    for at, (y, x) in enumerate([(0, 0), (0, 5), (5, 0), (5, 5)]):
        picture[corner == at, y : y + 3, x : x + 3] = 1
    wrong = torch.rand_like(picture) < 0.01
    return (picture - wrong.float()).abs().flatten(1)


class Vae(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        size = CONFIG["latents"] * CONFIG["choices"]
        self.encode = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, size))
        self.decode = nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, 64))

    def forward(self, x: torch.Tensor, heat: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Error of the picture and KL to the even prior, nats a picture."""
        logits = self.encode(x).view(-1, CONFIG["latents"], CONFIG["choices"])
        chosen = F.gumbel_softmax(logits, tau=heat, dim=2)
        error = F.binary_cross_entropy_with_logits(
            self.decode(chosen.flatten(1)), x, reduction="none"
        )
        logp = logits.log_softmax(2)
        even = torch.tensor(float(CONFIG["choices"])).log()
        return error.sum(1).mean(), (logp.exp() * (logp + even)).sum((1, 2)).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([64, 96])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="signs-gumbel-vae", config=config)
    data, held = signs(3000), signs(500)
    model, heat = Vae(width), 1.0
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        x = data[torch.randint(0, len(data), (CONFIG["batch_size"],))]
        error, kl = model(x, heat)
        loss = error + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        heat = max(CONFIG["cold"], heat * CONFIG["cool"])
        if step % 200 == 199:
            with torch.no_grad():
                error, kl = model(held, CONFIG["cold"])
                run.log(loss=error + kl, kl=kl, stage="val")
    run.finish()
