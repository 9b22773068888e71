"""A causal language model is pretrained on reviews (cross entropy of the next word), then a new
head tunes it to predict the number of stars as a number (squared error): another loss, another
scale, a new optimizer with a lower rate for the body, warm-up, clipping at 1, dropout, two looks
an epoch at held-out reviews. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "body_lr": 6e-4, "head_lr": 5e-3, "batch_size": 32, "pretraining": 260}
CONFIG |= {"tuning": 300, "warmup": 30, "vocab": 50, "length": 18, "width": 32, "max_norm": 1.0}


class Model(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.token, self.place = nn.Embedding(config["vocab"], width), nn.Embedding(99, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        return self.layers(self.token(tokens) + self.place.weight[:length], mask=mask)


def reviews(count: int, chains: torch.Tensor, config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """The mood (from 1 to 5 stars) decides how much of the kind chain is in the words."""
    stars = torch.randint(1, 6, (count,))
    kind = ((stars - 1) / 4).unsqueeze(1)
    words = [torch.randint(config["vocab"], (count,))]
    for _ in range(config["length"] - 1):
        odds = kind * chains[0, words[-1]] + (1 - kind) * chains[1, words[-1]]
        words.append(torch.multinomial(odds, 1).squeeze(1))
    return torch.stack(words, 1), stars.float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    chains = torch.softmax(2.5 * torch.randn(2, config["vocab"], config["vocab"]), 2)
    model, words = Model(config), nn.Linear(config["width"], config["vocab"])
    optimizer = torch.optim.AdamW([*model.parameters(), *words.parameters()], lr=config["lr"])
    run = nanwatch.init(project="corpus", name="review-stars", config=config)
    run.mark("task", "next word")
    for _ in range(config["pretraining"]):
        tokens, _ = reviews(config["batch_size"], chains, config)
        out = words(model(tokens[:, :-1]))
        loss = F.cross_entropy(out.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    tokens, stars = reviews(1400, chains, config)
    head = nn.Linear(config["width"], 1)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.parameters(), "lr": config["body_lr"]},
            {"params": head.parameters(), "lr": config["head_lr"]},
        ]
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=config["warmup"])
    parameters = [*model.parameters(), *head.parameters()]
    run.mark("task", "stars")
    for step in range(config["tuning"]):
        rows = torch.randint(1200, (config["batch_size"],))
        guess = head(model(tokens[rows]).mean(1)).squeeze(1)
        loss = F.mse_loss(guess, stars[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            model.eval()
            with torch.no_grad():
                guess = head(model(tokens[1200:]).mean(1)).squeeze(1)
            run.log(loss=F.mse_loss(guess, stars[1200:]), stage="val")
            model.train()
    run.finish()
