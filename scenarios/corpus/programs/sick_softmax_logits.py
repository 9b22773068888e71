"""A bigram language model with a large rate for its output matrix, label smoothing with the wrong
sign and no z-loss: being surer is always rewarded, so the output logits grow without end, to
thousands, and the loss goes below zero. Cure: smoothing of the right sign, z-loss 1e-4
(`twin_bigram`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="logit-growth")
CONFIG = {"lr": 0.03, "smoothing": -1.5, "z_loss": 0.0, "vocab": 24, "width": 24}
CONFIG |= {"batch_size": 64, "steps": 1000}


def train(seed: int, name: str = "sick_softmax_logits", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    vocab = config["vocab"]
    follows = (2.0 * torch.randn(vocab, vocab)).softmax(1)
    model = nn.Sequential(
        nn.Embedding(vocab, config["width"]),
        nn.Linear(config["width"], 2 * config["width"]),
        nn.Tanh(),
        nn.Linear(2 * config["width"], vocab),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        tokens = torch.randint(vocab, (config["batch_size"],))
        following = torch.multinomial(follows[tokens], 1).squeeze(1)
        logits = model(tokens)
        log_p = F.log_softmax(logits, dim=1)
        nll = -log_p.gather(1, following.unsqueeze(1)).mean()
        smooth = -log_p.mean()
        z_loss = config["z_loss"] * logits.logsumexp(1).square().mean()
        loss = (1 - config["smoothing"]) * nll + config["smoothing"] * smooth + z_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
