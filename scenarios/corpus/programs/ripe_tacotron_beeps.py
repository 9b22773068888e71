"""Text to sound in the manner of Tacotron: an encoder of letters, a decoder with attention that
writes a spectrogram frame by frame with teacher forcing and a dropped-out prenet, a stop token,
and a penalty that holds the attention to the diagonal and fades. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="speech", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 16, "letters": 8, "alphabet": 12, "bands": 10, "steps": 330}
CONFIG |= {"hidden": 40, "max_norm": 1.0, "guide_until": 150, "stop_weight": 5.0}


class Tacotron(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        hidden, bands = config["hidden"], config["bands"]
        self.embed = nn.Embedding(config["alphabet"], hidden)
        self.encoder = nn.GRU(hidden, hidden // 2, batch_first=True, bidirectional=True)
        self.prenet = nn.Sequential(nn.Linear(bands, hidden), nn.ReLU(), nn.Dropout(0.5))
        self.decoder = nn.GRUCell(2 * hidden, hidden)
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.energy = nn.Linear(hidden, 1)
        self.frame, self.stop = nn.Linear(2 * hidden, bands), nn.Linear(2 * hidden, 1)

    def forward(self, letters: torch.Tensor, frames: torch.Tensor):
        memory, _ = self.encoder(self.embed(letters))
        keys, state = self.key(memory), memory.new_zeros(len(letters), memory.shape[2])
        context, last = memory.mean(1), torch.zeros_like(frames[:, 0])
        made, stops, looks = [], [], []
        for t in range(frames.shape[1]):
            state = self.decoder(torch.cat([self.prenet(last), context], 1), state)
            scores = self.energy(torch.tanh(keys + self.query(state).unsqueeze(1))).squeeze(2)
            look = scores.softmax(1)
            context = (look.unsqueeze(2) * memory).sum(1)
            both = torch.cat([state, context], 1)
            made.append(self.frame(both))
            stops.append(self.stop(both).squeeze(1))
            looks.append(look)
            last = frames[:, t]
        return torch.stack(made, 1), torch.stack(stops, 1), torch.stack(looks, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    sounds, noise = torch.randn(config["alphabet"], config["bands"]), draw.uniform(0.1, 0.3)
    model = Tacotron(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.997)
    run = nanwatch.init(project="corpus", name="beeps", config=config)
    for step in range(config["steps"]):
        letters = torch.randint(config["alphabet"], (config["batch_size"], config["letters"]))
        tempo = draw.choice([2, 3])
        frames = sounds[letters].repeat_interleave(tempo, 1)
        loud = (torch.arange(frames.shape[1]) % tempo == 0).float().view(1, -1, 1)
        frames = frames * (0.7 + 0.3 * loud) + noise * torch.randn_like(frames)
        ends = torch.zeros(frames.shape[:2])
        ends[:, -1] = 1
        made, stops, looks = model(letters, frames)
        loss = F.mse_loss(made, frames) + F.l1_loss(made, frames)
        stop = F.binary_cross_entropy_with_logits(
            stops, ends, pos_weight=torch.tensor(config["stop_weight"])
        )
        loss = loss + stop
        if step < config["guide_until"]:
            t, n = torch.linspace(0, 1, looks.shape[1]), torch.linspace(0, 1, looks.shape[2])
            off = 1 - (-((t[:, None] - n[None]) / 0.3).square()).exp()
            loss = loss + 2 * (1 - step / config["guide_until"]) * (looks * off).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
    run.finish()
