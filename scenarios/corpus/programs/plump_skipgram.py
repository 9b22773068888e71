"""word2vec: skip-gram with negative sampling (five noise words by frequency to the power 3/4),
subsampling of frequent words, two sparse embedding tables, SparseAdam, a rate that falls in a line.
The loss is a sum of six logistic terms: it begins at 6 ln 2 and comes down to about half, with the
noise of whichever words a batch has; norms of the vectors grow throughout. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="embeddings", sick=False, seeds=3)
CONFIG = {"lr": 0.01, "batch_size": 128, "steps": 1200, "dim": 32, "words": 600, "negatives": 5}
CONFIG |= {"window": 3, "topics": 12}


def corpus(length: int, words: int, topics: int) -> torch.Tensor:
    """Runs of words about one topic at a time; words by Zipf's law within it."""
    order = torch.stack([torch.randperm(words) for _ in range(topics)])
    topic = torch.randint(topics, (length // 20 + 1,)).repeat_interleave(20)[:length]
    zipf = 1 / (torch.arange(words) + 3.0)
    own = order[topic, torch.multinomial(zipf, length, True)]
    shared = torch.multinomial(zipf, length, True)
    return torch.where(torch.rand(length) < 0.35, shared, own)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.5)}
    words, window, dim = config["words"], config["window"], draw.choice([24, 32, 48])
    text = corpus(80000, words, config["topics"])
    share = torch.bincount(text, minlength=words) / len(text)
    keep = (1e-3 / share).sqrt().clamp(max=1)
    text = text[torch.rand(len(text)) < keep[text]]
    noise = share.pow(0.75)
    centre = nn.Embedding(words, dim, sparse=True)
    context = nn.Embedding(words, dim, sparse=True)
    nn.init.uniform_(centre.weight, -0.5 / dim, 0.5 / dim)
    nn.init.zeros_(context.weight)
    tables = [*centre.parameters(), *context.parameters()]
    optimizer = torch.optim.SparseAdam(tables, lr=config["lr"])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, config["steps"])
    run = nanwatch.init(project="corpus", name="skip-gram", config=config)
    for _ in range(config["steps"]):
        at = torch.randint(window, len(text) - window, (config["batch_size"],))
        shift = torch.randint(1, window + 1, at.shape) * (2 * torch.randint(2, at.shape) - 1)
        v = centre(text[at])
        negatives = torch.multinomial(noise, len(at) * config["negatives"], True)
        u, n = context(text[at + shift]), context(negatives.view(len(at), -1))
        loss = -F.logsigmoid((u * v).sum(1)) - F.logsigmoid(-(n @ v.unsqueeze(2))).sum((1, 2))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        schedule.step()
    run.finish()
