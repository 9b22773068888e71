"""A temporal convolutional net with weight norm continues four-voiced chorales: 24 keys, several at
once, binary cross entropy summed over keys. Small batches of pieces of different length, a clip
that seldom binds, and a rate that is halved when the held-out loss stands. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="music", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 3, "epochs": 15, "pieces": 120, "keys": 24, "width": 32}
CONFIG |= {"max_norm": 3.0, "dropout": 0.1}


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.conv1 = weight_norm(nn.Conv1d(inputs, outputs, 3, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(outputs, outputs, 3, dilation=dilation))
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dropout(F.relu(self.conv1(F.pad(x, (self.pad, 0)))))
        y = self.dropout(F.relu(self.conv2(F.pad(y, (self.pad, 0)))))
        return F.relu(y + self.skip(x))


def chorale(draw: random.Random, keys: int, free: float) -> torch.Tensor:
    """[time, keys]: four voices that mostly hold or move by a step along a progression."""
    home = draw.randrange(keys // 2)
    chords = [[0, 4, 7, 12], [5, 9, 12, 17], [7, 11, 14, 19], [0, 4, 7, 12]]
    song = torch.zeros(draw.randint(24, 60), keys)
    for t in range(len(song)):
        for note in chords[(t // 4) % 4]:
            moved = draw.choice([-2, 2]) if draw.random() < free else 0
            song[t, (home + note + moved) % keys] = 1
    return song


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    free, width, keys = draw.uniform(0.1, 0.2), config["width"], config["keys"]
    songs = [chorale(draw, keys, free) for _ in range(config["pieces"] + 20)]
    held, songs = songs[:20], songs[20:]
    model = nn.Sequential(
        *[Block(keys if i == 0 else width, width, 2**i, config["dropout"]) for i in range(3)],
        nn.Conv1d(width, keys, 1),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    run = nanwatch.init(project="corpus", name="chorales", config=config)

    def loss_of(pieces: list[torch.Tensor]) -> torch.Tensor:
        batch = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        real = torch.arange(batch.shape[1] - 1) < torch.tensor([[len(p) - 1] for p in pieces])
        logits = model(batch[:, :-1].transpose(1, 2)).transpose(1, 2)
        loss = F.binary_cross_entropy_with_logits(logits, batch[:, 1:], reduction="none").sum(2)
        return (loss * real).sum() / real.sum()

    for _ in range(config["epochs"]):
        model.train()
        draw.shuffle(songs)
        for at in range(0, len(songs), config["batch_size"]):
            loss = loss_of(songs[at : at + config["batch_size"]])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
            optimizer.step()
        model.eval()
        with torch.no_grad():
            held_loss = loss_of(held)
        run.log(loss=held_loss, stage="val")
        plateau.step(held_loss)
    run.finish()
