"""CTC on strings written as noisy strokes of random width: the loss starts huge, rests while the
net only emits blanks, and falls when the first letters come."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=False, seeds=6)
CONFIG = {"lr": 6e-3, "batch_size": 16, "letters": 5, "clip": 5.0, "steps": 500}
LENGTH, FRAMES = 4, 20


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, channels = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "channels": channels}
    run = nanwatch.init(project="corpus", name="ctc", config=config)
    strokes, noise = torch.randn(CONFIG["letters"], 6), draw.uniform(0.3, 0.5)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames (count, 6, FRAMES) and letters 1 to 5 (count, LENGTH)."""
        text = torch.randint(1, CONFIG["letters"] + 1, (count, LENGTH))
        frames = noise * torch.randn(count, 6, FRAMES)
        for place in range(LENGTH):
            start = 5 * place + torch.randint(0, 2, (count, 1))
            on = torch.arange(FRAMES) - start
            on = ((on >= 0) & (on < 3)).float()
            frames = frames + strokes[text[:, place] - 1][:, :, None] * on[:, None]
        return frames, text

    model = nn.Sequential(
        nn.Conv1d(6, channels, 3, padding=1), nn.ReLU(),
        nn.Conv1d(channels, channels, 3, padding=1), nn.ReLU(),
        nn.Conv1d(channels, CONFIG["letters"] + 1, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def loss_of(frames: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = F.log_softmax(model(frames), dim=1).permute(2, 0, 1)
        lengths = torch.full((len(text),), FRAMES), torch.full((len(text),), LENGTH)
        return F.ctc_loss(scores, text, *lengths), scores

    for step in range(CONFIG["steps"]):
        loss, _ = loss_of(*batch(CONFIG["batch_size"]))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), CONFIG["clip"])
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                loss, scores = loss_of(*batch(200))
            blanks = (scores.argmax(2) == 0).float().mean()
            run.log(loss=loss, blank_share=blanks, stage="val")
    run.finish()
