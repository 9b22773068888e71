"""Speakers are told apart by a generalised end-to-end loss: six speakers with five utterances a
batch, an LSTM, embeddings of length one, and a learned scale and offset of the cosine whose
gradients are made a hundred times smaller; SGD, a clip at three. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=False, seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.9, "speakers": 6, "utterances": 5, "frames": 20, "bands": 10}
CONFIG |= {"hidden": 32, "steps": 800, "max_norm": 3.0, "halve_every": 250}


class Voice(nn.Module):
    def __init__(self, bands: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(bands, hidden, num_layers=2, batch_first=True)
        self.project = nn.Linear(hidden, 16)
        self.scale, self.offset = nn.Parameter(torch.tensor(10.0)), nn.Parameter(torch.tensor(-5.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.project(self.lstm(x)[0][:, -1]), dim=1)


def ge2e(model: Voice, e: torch.Tensor) -> torch.Tensor:
    """e [speakers, utterances, width]; a speaker's own centre leaves the utterance out."""
    speakers, utterances, _ = e.shape
    centre = F.normalize(e.mean(1), dim=1)
    alone = F.normalize((e.sum(1, keepdim=True) - e) / (utterances - 1), dim=2)
    like = torch.einsum("sud,td->sut", e, centre)
    own = torch.eye(speakers, dtype=torch.bool).unsqueeze(1).expand_as(like)
    like = torch.where(own, (e * alone).sum(2, keepdim=True), like)
    logits = model.scale.clamp(min=1e-6) * like + model.offset
    goal = torch.arange(speakers).repeat_interleave(utterances)
    return F.cross_entropy(logits.flatten(0, 1), goal)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise, bands = draw.uniform(0.8, 1.2), config["bands"]
    timbre, vowels = torch.randn(80, bands), torch.randn(6, bands)
    model = Voice(bands, config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, config["halve_every"], 0.5)
    run = nanwatch.init(project="corpus", name="voices", config=config)

    def talk(speakers: torch.Tensor) -> torch.Tensor:
        shape = (len(speakers), config["utterances"], config["frames"])
        sound = vowels[torch.randint(len(vowels), shape)] + 0.6 * timbre[speakers][:, None, None]
        return sound + noise * torch.randn_like(sound)

    for step in range(config["steps"]):
        heard = talk(torch.randperm(60)[: config["speakers"]])
        embedded = model(heard.flatten(0, 1)).view(*heard.shape[:2], -1)
        loss = ge2e(model, embedded)
        optimizer.zero_grad()
        loss.backward()
        for weight in (model.scale, model.offset):
            weight.grad.mul_(0.01)
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                heard = talk(torch.arange(60, 80))
                embedded = model(heard.flatten(0, 1)).view(*heard.shape[:2], -1)
                run.log(loss=ge2e(model, embedded), stage="val")
    run.finish()
