"""A VAE of short sentences: a GRU reads, another writes with half of its words dropped, the
weight of the KL term is raised from 0 to 0.3 over a third of the training, and each latent has a
twentieth of a nat for free. The loss falls, is lifted as the weight grows, and falls on; the KL
goes up first, as there is something to be told, and stays well above zero. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vae", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 48, "steps": 600, "vocab": 40, "length": 12, "width": 40}
CONFIG |= {"latent": 8, "free": 0.05, "kl_weight": 0.3, "kl_warmup": 200, "word_dropout": 0.5}
CONFIG |= {"max_norm": 5.0}


class SentenceVae(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, latent, vocab = config["width"], config["latent"], config["vocab"]
        self.words = nn.Embedding(vocab + 1, width)
        self.reader = nn.GRU(width, width, batch_first=True)
        self.mean, self.log_var = nn.Linear(width, latent), nn.Linear(width, latent)
        self.start = nn.Linear(latent, width)
        self.writer = nn.GRU(width + latent, width, batch_first=True)
        self.head = nn.Linear(width, vocab)

    def forward(self, text: torch.Tensor, given: torch.Tensor):
        last = self.reader(self.words(text))[1][0]
        mean, log_var = self.mean(last), self.log_var(last)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        seen = torch.cat([self.words(given), z.unsqueeze(1).expand(-1, given.shape[1], -1)], 2)
        out = self.head(self.writer(seen, self.start(z).tanh().unsqueeze(0))[0])
        return out, mean, log_var


def sentences(count: int, topics: torch.Tensor, length: int) -> torch.Tensor:
    """A sentence has a topic, which decides what follows what."""
    topic = torch.randint(len(topics), (count,))
    words = [torch.randint(topics.shape[1], (count,))]
    for _ in range(length - 1):
        words.append(torch.multinomial(topics[topic, words[-1]], 1).squeeze(1))
    return torch.stack(words, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    vocab = config["vocab"]
    topics = torch.softmax(3 * torch.randn(draw.choice([5, 6, 8]), vocab, vocab), 2)
    data = sentences(4000, topics, config["length"])
    model = SentenceVae(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sentence-vae", config=config)
    for step in range(config["steps"]):
        text = data[torch.randint(len(data), (config["batch_size"],))]
        given = torch.cat([torch.full((len(text), 1), vocab), text[:, :-1]], 1)
        given = given.masked_fill(torch.rand(given.shape) < config["word_dropout"], vocab)
        out, mean, log_var = model(text, given)
        told = F.cross_entropy(out.flatten(0, 1), text.flatten(), reduction="sum") / len(text)
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean(0)
        weight = config["kl_weight"] * min(1.0, step / config["kl_warmup"])
        loss = told + weight * kl.clamp(min=config["free"]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        run.log(kl=kl.detach().sum())
    run.finish()
