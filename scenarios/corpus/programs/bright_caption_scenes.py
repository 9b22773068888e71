"""Captions of little scenes: a convolutional encoder, an LSTM that writes with teacher forcing, and
padding that the loss leaves out. First the encoder is frozen, after a third of the training it is
let go at a tenth of the rate. Adam, clipping at 5, one look at held-out scenes an epoch. The loss
falls in two stages. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="captioning", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 32, "steps": 520, "frozen": 170, "width": 32, "size": 16}
CONFIG |= {"max_norm": 5.0}
PAD, END = 0, 1
COLOURS, SHAPES, PLACES = (2, 3, 4), (5, 6), (7, 8)


class Captioner(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, 2, 1), nn.ReLU(), nn.Conv2d(width // 2, width, 3, 2, 1),
            nn.ReLU(), nn.Flatten(), nn.Linear(16 * width, width),
        )  # fmt: skip
        self.words = nn.Embedding(9, width)
        self.lstm = nn.LSTM(width, 2 * width, batch_first=True)
        self.head = nn.Linear(2 * width, 9)

    def forward(self, picture: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        seen = self.encoder(picture).unsqueeze(1)
        return self.head(self.lstm(torch.cat([seen, self.words(words[:, :-1])], 1))[0])


def scenes(count: int, size: int, noise: float, draw: random.Random):
    """One to three things from left to right, each with colour, shape and height."""
    picture = noise * torch.randn(count, 3, size, size)
    text = torch.zeros(count, 10, dtype=torch.long)
    for i in range(count):
        said = []
        for slot in range(3):
            if draw.random() < 0.3:
                continue
            colour, shape, place = draw.randrange(3), draw.randrange(2), draw.randrange(2)
            x, y = 1 + 5 * slot, 2 + 8 * place + draw.randint(-1, 1)
            thing = torch.ones(4, 4) if shape else torch.eye(4)
            picture[i, colour, y : y + 4, x : x + 4] += thing
            said += [COLOURS[colour], SHAPES[shape], PLACES[place]]
        text[i, : len(said) + 1] = torch.tensor([*said, END])
    return picture, text


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise = draw.uniform(0.1, 0.3)
    pictures, texts = scenes(1500, config["size"], noise, draw)
    model = Captioner(config["width"])
    model.encoder.requires_grad_(False)
    rest = [p for n, p in model.named_parameters() if not n.startswith("encoder")]
    optimizer = torch.optim.Adam(rest, lr=config["lr"])
    run = nanwatch.init(project="corpus", name="captions", config=config)
    for step in range(config["steps"]):
        if step == config["frozen"]:
            model.encoder.requires_grad_(True)
            optimizer.add_param_group(
                {"params": model.encoder.parameters(), "lr": config["lr"] / 10}
            )
        rows = torch.randint(1300, (config["batch_size"],))
        out = model(pictures[rows], texts[rows])
        loss = F.cross_entropy(out.flatten(0, 1), texts[rows].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        if step % 40 == 39:
            with torch.no_grad():
                out = model(pictures[1300:], texts[1300:]).flatten(0, 1)
            held = F.cross_entropy(out, texts[1300:].flatten(), ignore_index=PAD)
            run.log(loss=held, stage="val")
    run.finish()
