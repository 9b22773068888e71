"""A melody is heard once, then one asks what was played at a given beat: attention over the notes,
written by hand as exp(q k) over its sum, without the root of the width and without taking off the
maximum. To answer rightly the attention has to be sharp, its logits grow and grow, and beyond 88
exp is inf and inf / inf is NaN. Cure: softmax(), 1 / sqrt(d), weight decay."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="logit-growth", seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 32, "beats": 16, "tones": 12, "width": 32, "steps": 900}
CONFIG |= {"noise": 0.3, "max_norm": 1.0}


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, asked, notes):
        weight = torch.exp(self.q(asked) @ self.k(notes).mT)
        weight = weight / weight.sum(2, keepdim=True)
        return self.out(weight @ self.v(notes))


class Listener(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["width"]
        self.beat = nn.Embedding(config["beats"], width)
        self.note = nn.Linear(config["tones"], width)
        self.attention = nn.ModuleList([Attention(width), Attention(width)])
        self.norm = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.head = nn.Linear(width, config["tones"])

    def forward(self, spectra, beat):
        notes = self.note(spectra) + self.beat.weight
        h = self.beat(beat)
        for attention, norm in zip(self.attention, self.norm, strict=True):
            h = norm(h + attention(h, notes))
        return self.head(h)


def melodies(config):
    """Noisy spectra of the beats, beats one asks for, and what was played at them."""
    tone = torch.randint(0, config["tones"], (config["batch_size"], config["beats"]))
    spectra = F.one_hot(tone, config["tones"]).float()
    spectra = spectra + config["noise"] * torch.randn_like(spectra)
    beat = torch.randint(0, config["beats"], (config["batch_size"], 4))
    return spectra, beat, tone.gather(1, beat)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    model = Listener(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="melody-recall", config=config)
    for step in range(config["steps"]):
        spectra, beat, tone = melodies(config)
        loss = F.cross_entropy(model(spectra, beat).flatten(0, 1), tone.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                spectra, beat, tone = melodies(config)
                right = (model(spectra, beat).argmax(2) == tone).float().mean()
            run.log(accuracy=right, stage="val")
    run.finish()
