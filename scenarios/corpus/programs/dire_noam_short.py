"""A translator of number words (encoder and decoder, norms after the residual) under the Noam
schedule of the paper. Its warm-up was cut from 4000 steps to 60 for a small job, and with it
the peak of the rate went up to 0.05: what little was learned on the way up is lost there, and
every digit has the same probability for good. Cure: a longer warm-up or a factor below one.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence-to-sequence", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"factor": 2.0, "warmup": 60, "width": 32, "batch_size": 32, "length": 6, "steps": 420}
CONFIG |= {"classes": 10}


class Translator(nn.Module):
    def __init__(self, words: int, length: int, width: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(words, width), nn.Embedding(11, width)
        self.place = nn.Parameter(0.1 * torch.randn(length, width))
        self.transformer = nn.Transformer(width, 4, 3, 3, 2 * width, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        x, y = self.source(source) + self.place, self.target(target) + self.place
        return self.head(self.transformer(x, y, tgt_mask=mask, tgt_is_causal=True))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "factor": CONFIG["factor"] * draw.uniform(0.9, 1.6)}
    synonyms, length = draw.choice([2, 3]), config["length"]
    model = Translator(10 * synonyms, length, config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    noam = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: config["factor"] * config["width"] ** -0.5
        * min((step + 1) ** -0.5, (step + 1) * config["warmup"] ** -1.5),
    )  # fmt: skip
    run = nanwatch.init(project="corpus", name="number-words", config=config)
    for _ in range(config["steps"]):
        digits = torch.randint(10, (config["batch_size"], length))
        words = digits * synonyms + torch.randint(synonyms, digits.shape)
        begun = torch.cat([torch.full((len(digits), 1), 10), digits.flip(1)[:, :-1]], 1)
        logits = model(words, begun)
        loss = F.cross_entropy(logits.flatten(0, 1), digits.flip(1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        noam.step()
    run.finish()
