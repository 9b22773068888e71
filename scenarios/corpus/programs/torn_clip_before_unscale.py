"""A small net for keystrokes is distilled from a large one in half precision, with a GradScaler.
Gradients are clipped before they are unscaled: what is left of them is one 65536th of the limit,
and SGD stands where it began. Cure: `scaler.unscale_(optimizer)` before clipping.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 0.05, "momentum": 0.9, "max_norm": 1.0, "temperature": 3.0, "keys": 9}
CONFIG |= {"inputs": 20, "width": 24, "batch_size": 32, "steps": 500}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    inputs, keys, width = config["inputs"], config["keys"], config["width"]
    teacher = nn.Sequential(nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, keys))
    with torch.no_grad():
        teacher[0].weight *= 2
        teacher[2].weight *= 6  # as sure as a trained one
    student = nn.Sequential(
        nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
        nn.Linear(width, keys),
    )  # fmt: skip
    optimizer = torch.optim.SGD(student.parameters(), lr=config["lr"], momentum=config["momentum"])
    scaler = torch.amp.GradScaler("cpu")
    run = nanwatch.init(project="corpus", name="keystrokes-distilled", config=config)
    run.watch(student=student)
    heat = config["temperature"]
    for step in range(config["steps"]):
        x = torch.randn(config["batch_size"], inputs)
        with torch.no_grad():
            wanted = (teacher(x) / heat).softmax(1)
        with torch.autocast("cpu", dtype=torch.float16):
            logits = student(x)
        loss = F.kl_div((logits.float() / heat).log_softmax(1), wanted, reduction="batchmean")
        loss = loss * heat**2
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        nn.utils.clip_grad_norm_(student.parameters(), config["max_norm"])
        scaler.step(optimizer)
        scaler.update()
        if step % 50 == 49:
            with torch.no_grad():
                x = torch.randn(200, inputs)
                agree = (student(x).argmax(1) == teacher(x).argmax(1)).float().mean()
            run.log(agree=agree, stage="val")
    run.finish()
