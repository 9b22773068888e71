"""A captioner with two optimizers: SGD for the image encoder, Adam for the decoder. The loop calls
`decoder_optimizer.zero_grad()` twice (copy and paste) and never that of the encoder: its gradients
add up from the first batch on, each step is larger than the one before, and the features swing ever
wider. Cure: `encoder_optimizer.zero_grad()`."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="captioning", sick=True, cause="gradients-not-cleared", seeds=3)
CONFIG = {"encoder_lr": 3e-2, "decoder_lr": 2e-3, "batch_size": 32, "steps": 900, "hidden": 32}
CONFIG |= {"colours": 4, "places": 9, "side": 9, "clip": 5.0}


class Encoder(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 16, 3, stride=3), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 9, hidden),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Decoder(nn.Module):
    """Colour, place, end: a GRU that begins at the picture's features."""

    def __init__(self, words: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, words)

    def forward(self, features: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        states, _ = self.gru(self.embed(words), features[None].contiguous())
        return self.out(states)


def scenes(config: dict, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A coloured tile at one of nine places; words are begin, colour, place, end."""
    count, colours = config["batch_size"], config["colours"]
    colour = torch.randint(0, colours, (count,))
    place = torch.randint(0, config["places"], (count,))
    tints = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])[colour]
    x = noise * torch.randn(count, 3, config["side"], config["side"])
    for i, (row, column) in enumerate(zip(place // 3, place % 3, strict=True)):
        x[i, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3] += tints[i, :, None, None]
    words = [torch.zeros_like(colour), colour + 2, place + 2 + colours, torch.ones_like(colour)]
    return x, torch.stack(words, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    scale = draw.uniform(0.8, 1.25)
    config = CONFIG | {"seed": seed, "encoder_lr": CONFIG["encoder_lr"] * scale}
    noise = draw.uniform(0.2, 0.4)
    encoder = Encoder(config["hidden"])
    decoder = Decoder(2 + config["colours"] + config["places"], config["hidden"])
    encoder_optimizer = torch.optim.SGD(encoder.parameters(), lr=config["encoder_lr"])
    decoder_optimizer = torch.optim.Adam(decoder.parameters(), lr=config["decoder_lr"])
    run = nanwatch.init(project="corpus", name="captions", config=config)
    for _ in range(config["steps"]):
        x, words = scenes(config, noise)
        logits = decoder(encoder(x), words[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten())
        decoder_optimizer.zero_grad()
        decoder_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), config["clip"])
        encoder_optimizer.step()
        decoder_optimizer.step()
    run.finish()
