"""A net for a hearing aid is made ready for its chip in stages: activations in three bits from
step 300, weights in two bits from step 500. Each stage throws the loss up at once; it comes down
again to a little more than before, which is the price that was planned for."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="quantisation", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 48, "activations_from": 300, "weights_from": 500, "bands": 16}
CONFIG |= {"classes": 5, "steps": 800}


def rounded(x: torch.Tensor, bits: int, most: torch.Tensor) -> torch.Tensor:
    """To 2^bits steps in [-most, most], straight through in the backward pass."""
    step = most / (2 ** (bits - 1) - 0.5)
    grid = ((x / step).round() * step).clamp(-most, most)
    return x + (grid - x).detach()


class Quantised(nn.Linear):
    weight_bits, activation_bits = 0, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        if self.weight_bits:
            weight = rounded(weight, self.weight_bits, 2.5 * weight.detach().std())
        if self.activation_bits:
            x = rounded(x, self.activation_bits, 3.0 * x.detach().std())
        return F.linear(x, weight, self.bias)


def scenes(count: int, spectra: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra of street, office, concert, wind and speech, at any loudness, two of them mixed."""
    scene = torch.randint(0, len(spectra), (count,))
    other = spectra[torch.randint(0, len(spectra), (count,))]
    mixed = spectra[scene] + 0.5 * torch.rand(count, 1) * other
    return mixed + 1.3 * torch.randn_like(mixed), scene


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([32, 40])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="hearing-aid", config=config)
    spectra = torch.randn(config["classes"], config["bands"])
    model = nn.Sequential(
        Quantised(config["bands"], width), nn.ReLU(), Quantised(width, width), nn.ReLU(),
        Quantised(width, config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    held = scenes(500, spectra)
    for step in range(config["steps"]):
        for layer in model[::2]:
            layer.activation_bits = 3 if step >= config["activations_from"] else 0
            layer.weight_bits = 2 if step >= config["weights_from"] else 0
        if step == config["weights_from"] + 100:
            for group in optimizer.param_groups:
                group["lr"] *= 0.3
        x, y = scenes(config["batch_size"], spectra)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 80 == 79:
            with torch.no_grad():
                run.log(loss=F.cross_entropy(model(held[0]), held[1]), stage="val")
    run.finish()
