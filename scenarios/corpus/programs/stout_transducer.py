"""A transducer (RNN-T) writes down spoken digits: within the warm-up it learns to say nothing but
blanks, then finds the alignment, and the loss falls by a factor of ten more. Clipping at work.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="speech", sick=False, seeds=4)
CONFIG = {"lr": 4e-3, "max_norm": 5.0, "warm_up": 80, "digits": 5, "said": 3, "frames": 8}
CONFIG |= {"bands": 8, "batch_size": 12, "steps": 400}


class Transducer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.GRU(CONFIG["bands"], width, batch_first=True)
        self.embed = nn.Embedding(CONFIG["digits"] + 1, width)
        self.predictor = nn.GRU(width, width, batch_first=True)
        self.joiner = nn.Linear(width, CONFIG["digits"] + 1)

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        heard, _ = self.encoder(x)
        told, _ = self.predictor(self.embed(F.pad(text, (1, 0))))
        return self.joiner(torch.tanh(heard[:, :, None] + told[:, None])).log_softmax(3)


def transducer_loss(logp: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Minus the log-likelihood over all alignments, a frame at a time."""
    blank = logp[..., 0]
    emit = logp[:, :, :-1].gather(3, text[:, None, :, None].expand(-1, logp.shape[1], -1, 1))
    emit = F.pad(emit[..., 0].cumsum(2), (1, 0))
    row = emit[:, 0]
    for frame in range(1, logp.shape[1]):
        came = row + blank[:, frame - 1]
        row = emit[:, frame] + torch.logcumsumexp(came - emit[:, frame], 1)
    return -(row[:, -1] + blank[:, -1, -1]).mean()


def spoken(sounds: torch.Tensor, count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Digits follow one another; how long each is held differs."""
    text = torch.randint(1, CONFIG["digits"] + 1, (count, CONFIG["said"]))
    ends = 2 + torch.randint(0, 2, (count, CONFIG["said"] - 1))
    place = (torch.arange(CONFIG["frames"])[None, :, None] >= ends.cumsum(1)[:, None]).sum(2)
    clean = sounds[text.gather(1, place)]
    return clean + noise * torch.randn_like(clean), text


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.4)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise, "width": draw.choice([32, 40])}
    sounds = torch.randn(CONFIG["digits"] + 1, CONFIG["bands"])
    model = Transducer(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 80, (80 / (step + 1)) ** 0.5)
    )
    run = nanwatch.init(project="corpus", name="digits-transducer", config=config)
    run.watch(model)
    held = spoken(sounds, 128, noise)
    for step in range(CONFIG["steps"]):
        x, text = spoken(sounds, CONFIG["batch_size"], noise)
        loss = transducer_loss(model(x, text), text)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 70 == 69:
            with torch.no_grad():
                run.log(loss=transducer_loss(model(held[0], held[1]), held[1]), stage="val")
    run.finish()
