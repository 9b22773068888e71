"""A masked autoencoder of small pictures: three quarters of the patches are hidden, a light decoder
fills them in (normalised pixels). Then the decoder is thrown away and a linear probe learns on the
frozen encoder, by SGD with a high rate and no decay. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="self-supervised", sick=False, seeds=3)
CONFIG = {"lr": 1.5e-3, "weight_decay": 0.05, "batch_size": 48, "steps": 420, "warmup": 40}
CONFIG |= {"probe_lr": 0.5, "probe_steps": 250, "hidden_share": 0.75, "width": 32, "kinds": 8}


def encoder_layers(width: int, layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)


class Masked(nn.Module):
    """Pictures of 12 x 12 as sixteen patches of 3 x 3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch, self.place = nn.Linear(9, width), nn.Parameter(0.02 * torch.randn(16, width))
        self.encoder, self.decoder = encoder_layers(width, 2), encoder_layers(width, 1)
        self.hole = nn.Parameter(torch.zeros(width))
        self.decoder_place = nn.Parameter(0.02 * torch.randn(16, width))
        self.out = nn.Linear(width, 9)

    def encode(self, patches: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        x = self.patch(patches) + self.place
        return self.encoder(x.gather(1, kept.unsqueeze(2).expand(-1, -1, x.shape[2])))

    def forward(self, patches: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        seen = self.encode(patches, kept)
        x = self.hole.expand(*patches.shape[:2], -1)
        x = x.scatter(1, kept.unsqueeze(2).expand_as(seen), seen)
        return self.out(self.decoder(x + self.decoder_place))


def pictures(count: int, styles: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.randint(len(styles), (count,))
    at = torch.linspace(-1, 1, 12)
    grid = torch.stack(torch.meshgrid(at, at, indexing="ij"), 2)
    wave = (grid @ (4 * styles[kind]).T).permute(2, 0, 1) + 6.3 * torch.rand(count, 1, 1)
    picture = wave.sin() + noise * torch.randn(count, 12, 12)
    return picture.unfold(1, 3, 3).unfold(2, 3, 3).reshape(count, 16, 9), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    styles, noise = torch.randn(config["kinds"], 2), draw.uniform(0.15, 0.3)
    model, probe = Masked(config["width"]), nn.Linear(config["width"], config["kinds"])
    norm = nn.BatchNorm1d(config["width"], affine=False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"], betas=(0.9, 0.95)
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [
        torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=config["warmup"]),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"] - config["warmup"]),
    ], [config["warmup"]])  # fmt: skip
    run = nanwatch.init(project="corpus", name="masked-pictures", config=config)
    few = round(16 * (1 - config["hidden_share"]))
    for _ in range(config["steps"]):
        patches, _ = pictures(config["batch_size"], styles, noise)
        order = torch.rand(len(patches), 16).argsort(1)
        hidden = torch.ones(len(patches), 16).scatter(1, order[:, :few], 0.0)
        goal = (patches - patches.mean(2, keepdim=True)) / (patches.std(2, keepdim=True) + 1e-3)
        error = (model(patches, order[:, :few]) - goal).square().mean(2)
        loss = (error * hidden).sum() / hidden.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.requires_grad_(False).eval()
    run.mark("task", "linear probe")
    optimizer = torch.optim.SGD(probe.parameters(), lr=config["probe_lr"], momentum=0.9)
    every = torch.arange(16).expand(config["batch_size"], -1)
    for step in range(config["probe_steps"]):
        patches, kind = pictures(config["batch_size"], styles, noise)
        loss = F.cross_entropy(probe(norm(model.encode(patches, every).mean(1))), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            norm.eval()
            with torch.no_grad():
                patches, kind = pictures(300, styles, noise)
                found = probe(norm(model.encode(patches, every[:1].expand(300, -1)).mean(1)))
                run.log(accuracy=(found.argmax(1) == kind).float().mean(), stage="val")
            norm.train()
    run.finish()
