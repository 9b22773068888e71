"""Shards of pottery from ten workshops, in the manner of the torchvision reference script: residual
net, SGD at 0.1 with momentum 0.9 and weight decay 1e-4, flips and crops, the rate divided by ten at
two milestones, validation after each epoch. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=False, seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 32, "epochs": 15}
CONFIG |= {"milestones": [8, 12], "width": 8, "size": 16, "classes": 10}


class BasicBlock(nn.Module):
    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + identity)


class AverageMeter:
    def __init__(self) -> None:
        self.sum, self.count = 0.0, 0

    def update(self, value: float, n: int) -> None:
        self.sum, self.count = self.sum + value * n, self.count + n

    @property
    def avg(self) -> float:
        return self.sum / max(1, self.count)


def shards(count: int, motifs: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A motif of the workshop, turned, worn and somewhere in the picture."""
    kind = torch.randint(len(motifs), (count,))
    picture = motifs[kind] * (0.5 + torch.rand(count, 1, 1, 1))
    quarter = torch.randint(2, (count, 1, 1, 1)).bool()
    picture = torch.where(quarter, picture.transpose(2, 3), picture)
    worn = (torch.rand(count, 1, *motifs.shape[2:]) > 0.25).float()
    return picture * worn + noise * torch.randn_like(picture), kind


def augment(images: torch.Tensor) -> torch.Tensor:
    flip = (torch.rand(len(images)) < 0.5).view(-1, 1, 1, 1)
    images = torch.where(flip, images.flip(3), images)
    padded = F.pad(images, (2, 2, 2, 2))
    top, left = random.randint(0, 4), random.randint(0, 4)
    return padded[:, :, top : top + images.shape[2], left : left + images.shape[3]]


def train_one_epoch(model, criterion, optimizer, loader) -> AverageMeter:
    model.train()
    losses = AverageMeter()
    for images, target in loader:
        output = model(augment(images))
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(images))
    return losses


def evaluate(model, criterion, loader) -> tuple[float, float]:
    model.eval()
    losses, top1 = AverageMeter(), AverageMeter()
    with torch.inference_mode():
        for images, target in loader:
            output = model(images)
            losses.update(criterion(output, target).item(), len(images))
            top1.update((output.argmax(1) == target).float().mean().item(), len(images))
    return losses.avg, top1.avg


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "width": draw.choice([8, 10, 12])}
    size, width, noise = config["size"], config["width"], draw.uniform(0.5, 0.9)
    motifs = F.interpolate(torch.randn(config["classes"], 3, 6, 6), (size, size), mode="bilinear")
    motifs = motifs / motifs.std()
    train_set = TensorDataset(*shards(1280, motifs, noise))
    val_set = TensorDataset(*shards(320, motifs, noise))
    loader = DataLoader(train_set, config["batch_size"], shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, 64)
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        BasicBlock(width, width), BasicBlock(width, 2 * width, 2),
        BasicBlock(2 * width, 4 * width, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4 * width, config["classes"]),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), config["lr"], config["momentum"], weight_decay=config["weight_decay"]
    )
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, config["milestones"], gamma=0.1)
    run = nanwatch.init(project="corpus", name="pottery-resnet", config=config)
    for epoch in range(config["epochs"]):
        losses = train_one_epoch(model, criterion, optimizer, loader)
        scheduler.step()
        loss, acc = evaluate(model, criterion, val_loader)
        run.log(loss=loss, accuracy=acc, stage="val")
        print(f"Epoch {epoch}: train {losses.avg:.3f} val {loss:.3f} acc@1 {acc:.3f}")
    run.finish()
