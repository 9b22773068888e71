"""A net for the state of bearings is pretrained on one plant and tuned to the next at a twentieth
of the rate, with layer-wise decay of the rates and weight decay: weights hardly move and the loss,
which leaps up with the new plant, comes down slowly but for good."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=4)
CONFIG = {"lr": 3e-3, "tuning_lr": 1.5e-4, "layer_decay": 0.6, "weight_decay": 0.05, "classes": 5}
CONFIG |= {"batch_size": 32, "pretraining": 250, "tuning": 450, "bands": 28}


def spectra(kind: torch.Tensor, looks: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return looks[kind] + shift + 0.9 * torch.randn(len(kind), CONFIG["bands"])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "tuning_lr": CONFIG["tuning_lr"] * draw.uniform(0.8, 1.4)}
    config["width"] = width = draw.choice([40, 56])
    looks = torch.randn(CONFIG["classes"], CONFIG["bands"])
    model = nn.Sequential(
        nn.Linear(CONFIG["bands"], width), nn.LayerNorm(width), nn.GELU(),
        nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(0.1),
        nn.Linear(width, CONFIG["classes"]),
    )  # fmt: skip
    run = nanwatch.init(project="corpus", name="bearings-tuning", config=config)
    shift = torch.zeros(CONFIG["bands"])
    for stage in ("pretraining", "tuning"):
        run.mark("task", stage)
        if stage == "pretraining":
            groups = [{"params": model.parameters(), "lr": CONFIG["lr"]}]
        else:
            looks = 0.75 * looks + 0.9 * torch.randn_like(looks)
            shift = 0.5 * torch.randn(CONFIG["bands"])
            parts = [part for part in model if list(part.parameters())]
            groups = [
                {
                    "params": part.parameters(),
                    "lr": config["tuning_lr"] * CONFIG["layer_decay"] ** (len(parts) - 1 - at),
                }
                for at, part in enumerate(parts)
            ]
        optimizer = torch.optim.AdamW(groups, weight_decay=CONFIG["weight_decay"])
        for step in range(CONFIG[stage]):
            kind = torch.randint(CONFIG["classes"], (CONFIG["batch_size"],))
            loss = F.cross_entropy(model(spectra(kind, looks, shift)), kind)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 50 == 49:
                model.eval()
                kind = torch.randint(CONFIG["classes"], (128,))
                with torch.no_grad():
                    right = model(spectra(kind, looks, shift)).argmax(1) == kind
                run.log(accuracy=right.float().mean(), stage="val")
                model.train()
    run.finish()
