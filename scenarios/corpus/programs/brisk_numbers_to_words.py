"""Numbers written in digits are translated into words by an encoder-decoder transformer
(nn.Transformer), after "The Annotated Transformer": Noam schedule, Adam with beta2 0.98, label
smoothing, teacher forcing, padding masks. The loss stays on a plateau while the warm-up lasts, then
falls. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence-to-sequence", sick=False, seeds=3)
CONFIG = {"d_model": 48, "heads": 4, "layers": 2, "factor": 1.0, "warmup": 200, "steps": 700}
CONFIG |= {"batch_size": 32, "smoothing": 0.1}

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
ONES = (ONES + " fifteen sixteen seventeen eighteen nineteen").split()
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = ["<pad>", "<bos>", "<eos>", *ONES, *TENS, "hundred", "thousand", "and"]
PAD, BOS, EOS = 0, 1, 2


def spoken(n: int) -> list[str]:
    if n < 20:
        return [ONES[n]]
    if n < 100:
        return [TENS[n // 10 - 2]] + ([ONES[n % 10]] if n % 10 else [])
    if n < 1000:
        return [ONES[n // 100], "hundred"] + (["and", *spoken(n % 100)] if n % 100 else [])
    return spoken(n // 1000) + ["thousand"] + (spoken(n % 1000) if n % 1000 else [])


def pad(rows: list[list[int]]) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def batch(numbers: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    source = pad([[int(c) + 1 for c in str(n)] for n in numbers])
    target = pad([[BOS, *(WORDS.index(w) for w in spoken(n)), EOS] for n in numbers])
    return source, target


class Seq2Seq(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        d = config["d_model"]
        self.d, self.src, self.tgt = d, nn.Embedding(11, d), nn.Embedding(len(WORDS), d)
        place = torch.arange(40).unsqueeze(1) * torch.exp(
            torch.arange(0, d, 2) * (-math.log(10000.0) / d)
        )
        self.register_buffer("pe", torch.stack([place.sin(), place.cos()], 2).flatten(1))
        self.transformer = nn.Transformer(
            d, config["heads"], config["layers"], config["layers"], 2 * d, 0.1, batch_first=True
        )
        self.generator = nn.Linear(d, len(WORDS))
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        s = self.src(source) * math.sqrt(self.d) + self.pe[: source.shape[1]]
        t = self.tgt(target) * math.sqrt(self.d) + self.pe[: target.shape[1]]
        future = torch.ones(target.shape[1], target.shape[1]).triu(1).bool()
        out = self.transformer(
            s, t, tgt_mask=future, src_key_padding_mask=source == PAD,
            tgt_key_padding_mask=target == PAD, memory_key_padding_mask=source == PAD,
        )  # fmt: skip
        return self.generator(out)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "d_model": draw.choice([32, 48])}
    config["factor"] = draw.uniform(0.7, 1.2)
    model = Seq2Seq(config)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config["factor"], betas=(0.9, 0.98), eps=1e-9
    )

    def rate(step: int) -> float:
        step = max(step, 1)
        return config["d_model"] ** -0.5 * min(step**-0.5, step * config["warmup"] ** -1.5)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    run = nanwatch.init(project="corpus", name="numbers-to-words", config=config)
    held = batch([draw.randrange(100000) for _ in range(100)])

    def criterion(pair: tuple[torch.Tensor, torch.Tensor], smoothing: float) -> torch.Tensor:
        source, target = pair
        logits = model(source, target[:, :-1])
        return F.cross_entropy(
            logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD,
            label_smoothing=smoothing,
        )  # fmt: skip

    for step in range(config["steps"]):
        numbers = [draw.randrange(10 ** draw.randint(2, 5)) for _ in range(config["batch_size"])]
        loss = criterion(batch(numbers), config["smoothing"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 100 == 99:
            model.eval()
            with torch.no_grad():
                run.log(loss=criterion(held, 0.0), stage="val")
            model.train()
    run.finish()
