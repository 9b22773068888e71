"""Bengio's language model, four words of context through one tanh layer, with a loss summed over
the batch (hundreds) and a rate that falls with the square root of the step."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "momentum": 0.9, "batch_size": 96, "context": 4, "words": 80,
          "weight_decay": 1e-5, "steps": 1400}  # fmt: skip


class NeuralLM(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        words, context = CONFIG["words"], CONFIG["context"]
        self.embed = nn.Embedding(words, 12)
        self.hidden = nn.Linear(12 * context, hidden)
        self.out = nn.Linear(hidden, words)
        self.direct = nn.Linear(12 * context, words, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens).flatten(1)
        return self.out(torch.tanh(self.hidden(x))) + self.direct(x)


def sentences(draw: random.Random, count: int) -> torch.Tensor:
    """A second-order chain: most pairs of words allow five followers, with Zipf's weights."""
    words = CONFIG["words"]
    follow = [[draw.randrange(words) for _ in range(5)] for _ in range(words)]
    text = [0, 1]
    while len(text) < count:
        choice = follow[(text[-1] + 3 * (text[-2] % 4)) % words]
        common = min(int(draw.paretovariate(0.9)) - 1, words - 1)
        text.append(common if draw.random() < 0.2 else draw.choices(choice, [8, 4, 2, 1, 1])[0])
    return torch.tensor(text)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    windows = sentences(draw, 24_000).unfold(0, CONFIG["context"] + 1, 1)
    known, held = windows[:-2000], windows[-2000:]
    run = nanwatch.init(project="corpus", name="neural-lm", config=config)
    model = NeuralLM(hidden)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=CONFIG["momentum"],
        weight_decay=CONFIG["weight_decay"], nesterov=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + step / 150) ** -0.5)
    for step in range(CONFIG["steps"]):
        rows = known[torch.randint(0, len(known), (CONFIG["batch_size"],))]
        loss = F.cross_entropy(model(rows[:, :-1]), rows[:, -1], reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            with torch.no_grad():
                nats = F.cross_entropy(model(held[:, :-1]), held[:, -1])
            run.log(perplexity=nats.exp(), stage="val")
    run.finish()
