"""A conditional GAN makes rows of a customer table (numbers and a segment). The generator's loss
was copied from the discriminator's and kept its label for fakes: it is paid for being found out,
goes away from the data, and both losses are soon nothing. Cure: the label of real rows.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse", seeds=4)
CONFIG = {"lr": 1e-3, "batch_size": 64, "steps": 600, "columns": 5, "segments": 4, "latent": 8}
CONFIG |= {"width": 48, "smoothing": 0.1}


class Customers:
    """Each segment has a centre and a covariance of its own."""

    def __init__(self, spread: float) -> None:
        self.centre = 1.5 * torch.randn(CONFIG["segments"], CONFIG["columns"])
        mix = torch.randn(CONFIG["segments"], CONFIG["columns"], CONFIG["columns"])
        self.mix = spread * mix / CONFIG["columns"] ** 0.5

    def batch(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.randint(0, CONFIG["segments"], (rows,))
        noise = torch.randn(rows, 1, CONFIG["columns"])
        return self.centre[kind] + (noise @ self.mix[kind])[:, 0], F.one_hot(kind, 4).float()


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    width = CONFIG["width"]
    return nn.Sequential(
        nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
        nn.Linear(width, outputs),
    )  # fmt: skip


def apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Energy distance between two samples."""
    return 2 * torch.cdist(one, other).mean() - (
        torch.cdist(one, one).mean() + torch.cdist(other, other).mean()
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, rows = CONFIG["lr"] * draw.uniform(0.7, 1.4), CONFIG["batch_size"]
    config = CONFIG | {"seed": seed, "lr": lr}
    table = Customers(draw.uniform(0.4, 0.8))
    generator = mlp(CONFIG["latent"] + CONFIG["segments"], CONFIG["columns"])
    judge = mlp(CONFIG["columns"] + CONFIG["segments"], 1)
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(judge.parameters(), lr=lr, betas=(0.5, 0.999))
    run = nanwatch.init(project="corpus", name="customers-cgan", config=config)
    run.watch(generator=generator, discriminator=judge)
    truth, fakes = torch.full((rows, 1), 1 - CONFIG["smoothing"]), torch.zeros(rows, 1)
    bce = F.binary_cross_entropy_with_logits
    for step in range(CONFIG["steps"]):
        real, kind = table.batch(rows)
        made = generator(torch.cat([torch.randn(rows, CONFIG["latent"]), kind], 1))
        loss_d = bce(judge(torch.cat([real, kind], 1)), truth)
        loss_d = loss_d + bce(judge(torch.cat([made.detach(), kind], 1)), fakes)
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        loss_g = bce(judge(torch.cat([made, kind], 1)), fakes)
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        if step % 25 == 0:
            with torch.no_grad():
                run.log(loss=apart(made, real), stage="val")
    run.finish()
