"""Corals on pictures of a reef, pixel by pixel, by a small U-Net: cross entropy plus soft Dice,
AdamW, ReduceLROnPlateau on the Dice of the held-out pictures, gradients clipped at 1. A few
pictures hold no coral at all. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="segmentation", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "weight_decay": 1e-3, "batch_size": 8, "epochs": 12, "size": 32, "width": 8}


def double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inc, self.down1 = double(3, width), double(width, 2 * width)
        self.down2 = double(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.conv1 = double(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.conv2 = double(2 * width, width)
        self.outc = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], 1))
        x = self.conv2(torch.cat([x1, self.up2(x)], 1))
        return self.outc(x).squeeze(1)


def reefs(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Reddish blobs that branch, on a blue ground of uneven light."""
    coarse = F.interpolate(torch.randn(count, 1, 6, 6), (size, size), mode="bicubic").squeeze(1)
    bare = (torch.rand(count, 1, 1) < 0.08).float()
    mask = ((coarse - 3 * bare) > 0.5).float()
    light = F.interpolate(torch.rand(count, 1, 3, 3), (size, size), mode="bilinear")
    ground, coral = torch.tensor([0.1, 0.3, 0.6]), torch.tensor([0.5, 0.3, 0.4])
    picture = ground.view(1, 3, 1, 1) + mask.unsqueeze(1) * (coral - ground).view(1, 3, 1, 1)
    return (0.5 + light) * picture + noise * torch.randn(count, 3, size, size), mask


def dice_loss(probability: torch.Tensor, mask: torch.Tensor, eps: float = 1.0) -> torch.Tensor:
    common = (probability * mask).sum((1, 2))
    total = probability.sum((1, 2)) + mask.sum((1, 2))
    return 1 - ((2 * common + eps) / (total + eps)).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    noise = draw.uniform(0.2, 0.35)
    images, masks = reefs(320, config["size"], noise)
    val_images, val_masks = reefs(64, config["size"], noise)
    net = UNet(config["width"])
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=1, factor=0.3)
    run = nanwatch.init(project="corpus", name="reef-unet", config=config)
    for _ in range(config["epochs"]):
        net.train()
        for rows in torch.randperm(len(images)).split(config["batch_size"]):
            logits = net(images[rows])
            loss = F.binary_cross_entropy_with_logits(logits, masks[rows])
            loss = loss + dice_loss(logits.sigmoid(), masks[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        net.eval()
        with torch.no_grad():
            logits = net(val_images)
            dice = 1 - dice_loss(logits.sigmoid(), val_masks)
            held = F.binary_cross_entropy_with_logits(logits, val_masks)
        scheduler.step(dice)
        run.log(loss=held, dice=dice, stage="val")
    run.finish()
