"""Skip-gram embeddings with negative sampling, sparse gradients and SparseAdam: a step touches a
few rows only, and rare words wait hundreds of steps for their first gradient."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="embeddings", sick=False, seeds=7)
CONFIG = {"lr": 0.02, "batch_size": 64, "negatives": 5, "dim": 12, "steps": 900}
WORDS, TOPICS = 400, 8


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    run = nanwatch.init(project="corpus", name="word2vec", config=CONFIG | {"seed": seed, "lr": lr})
    topic_of = torch.arange(WORDS) % TOPICS
    often = 1.0 / (1 + torch.arange(WORDS) // TOPICS).float() ** draw.uniform(0.8, 1.1)
    of_topic = [often * (topic_of == topic) for topic in range(TOPICS)]
    inputs = nn.Embedding(WORDS, CONFIG["dim"], sparse=True)
    outputs = nn.Embedding(WORDS, CONFIG["dim"], sparse=True)
    nn.init.uniform_(inputs.weight, -0.05, 0.05)
    nn.init.zeros_(outputs.weight)
    optimizer = torch.optim.SparseAdam([inputs.weight, outputs.weight], lr=lr)
    noise = often**0.75

    def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Words that stand together: of the same topic nine times of ten."""
        centre = torch.multinomial(often, count, replacement=True)
        weights = torch.stack(of_topic)[topic_of[centre]]
        beside = torch.multinomial(weights, 1)[:, 0]
        other = torch.multinomial(often, count, replacement=True)
        return centre, torch.where(torch.rand(count) < 0.9, beside, other)

    for step in range(CONFIG["steps"]):
        centre, beside = pairs(CONFIG["batch_size"])
        false = torch.multinomial(noise, len(centre) * CONFIG["negatives"], replacement=True)
        here = inputs(centre)
        true_score = (here * outputs(beside)).sum(1)
        false_score = (here[:, None] * outputs(false.view(len(centre), -1))).sum(2)
        loss = -F.logsigmoid(true_score).mean() - F.logsigmoid(-false_score).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 199:
            common = F.normalize(inputs.weight.detach()[:160], dim=1)
            likeness = common @ common.t() - 2 * torch.eye(160)
            same = topic_of[likeness.argmax(1)] == topic_of[:160]
            run.log(neighbour_of_same_topic=same.float().mean(), stage="val")
    run.finish()
