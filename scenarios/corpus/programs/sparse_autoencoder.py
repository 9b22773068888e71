"""An overcomplete autoencoder with an L1 penalty on ReLU codes: nearly all units are silent in
any batch, by design, and their columns are renormalised after every step."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "batch_size": 48, "l1": 0.4, "features": 96, "inputs": 24, "steps": 1000}


class SparseAutoencoder(nn.Module):
    def __init__(self, inputs: int, codes: int) -> None:
        super().__init__()
        self.encoder, self.act = nn.Linear(inputs, codes), nn.ReLU()
        self.decoder = nn.Linear(codes, inputs)
        nn.init.constant_(self.encoder.bias, -0.3)
        self.encoder.weight.data.copy_(self.decoder.weight.data.t())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes = self.act(self.encoder(x))
        return self.decoder(codes), codes

    @torch.no_grad()
    def normalise(self) -> None:
        self.decoder.weight.div_(self.decoder.weight.norm(dim=0, keepdim=True))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, codes = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([128, 192])
    config = CONFIG | {"seed": seed, "lr": lr, "codes": codes}
    run = nanwatch.init(project="corpus", name="sparse-autoencoder", config=config)
    words = nn.functional.normalize(torch.randn(CONFIG["features"], CONFIG["inputs"]), dim=1)

    def batch(count: int) -> torch.Tensor:
        active = torch.bernoulli(torch.full((count, CONFIG["features"]), 0.03))
        return (active * (1 + torch.rand_like(active))) @ words

    model = SparseAutoencoder(CONFIG["inputs"], codes)
    model.normalise()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        x = batch(CONFIG["batch_size"])
        rebuilt, code = model(x)
        loss = (rebuilt - x).square().sum(1).mean() + CONFIG["l1"] * code.sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.normalise()
        if step % 200 == 199:
            x = batch(500)
            with torch.no_grad():
                rebuilt, code = model(x)
            run.log(unexplained=(rebuilt - x).square().sum() / x.square().sum(), stage="val")
            run.log(codes_on=(code > 0).float().sum(1).mean(), stage="val")
    run.finish()
