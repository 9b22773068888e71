"""Names of rivers, letter by letter, after Karpathy's makemore: a GRU, AdamW at 3e-3, batches of
32 names with padding that the loss ignores, the held-out loss every hundred steps. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=3)
CONFIG = {"learning_rate": 3e-3, "weight_decay": 0.01, "batch_size": 32, "max_steps": 1000}
CONFIG |= {"n_embd": 24, "n_embd2": 48}

STARTS = ["ar", "br", "dan", "el", "gar", "is", "loi", "ma", "ne", "od", "po", "rhi", "sei",
          "ta", "ul", "vol", "we", "ys", "za", "tham", "dor"]  # fmt: skip
MIDDLES = ["a", "e", "i", "o", "u", "ai", "ou", "en", "an", "il", "ar", "un"]
ENDS = ["na", "re", "ne", "l", "se", "be", "r", "ster", "va", "wa", "m", "ga", "ra", "de"]


def make_names(count: int, draw: random.Random) -> list[str]:
    found = []
    for _ in range(count):
        name = draw.choice(STARTS)
        for _ in range(draw.choice([0, 1, 1, 2])):
            name += draw.choice(MIDDLES) + draw.choice("bdlmnrst")
        found.append(name + draw.choice(MIDDLES) + draw.choice(ENDS))
    return found


class CharDataset:
    def __init__(self, words: list[str], chars: str, longest: int) -> None:
        self.words, self.longest = words, longest
        self.stoi = {c: i + 1 for i, c in enumerate(chars)}

    def batch(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.zeros(len(rows), self.longest + 1, dtype=torch.long)
        y = torch.full((len(rows), self.longest + 1), -1)
        for at, row in enumerate(rows):
            ids = torch.tensor([self.stoi[c] for c in self.words[row]])
            x[at, 1 : 1 + len(ids)] = ids
            y[at, : len(ids)] = ids
            y[at, len(ids)] = 0
        return x, y


class RNN(nn.Module):
    def __init__(self, vocab: int, n_embd: int, n_embd2: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocab, n_embd)
        self.cell = nn.GRU(n_embd, n_embd2, batch_first=True)
        self.lm_head = nn.Linear(n_embd2, vocab)

    def forward(self, idx: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.lm_head(self.cell(self.wte(idx))[0])
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "n_embd2": draw.choice([40, 48, 64])}
    config["learning_rate"] *= draw.uniform(0.7, 1.3)
    words = make_names(3000, draw)
    chars = "".join(sorted(set("".join(words))))
    longest = max(map(len, words))
    train_set = CharDataset(words[:2700], chars, longest)
    test_set = CharDataset(words[2700:], chars, longest)
    model = RNN(len(chars) + 1, config["n_embd"], config["n_embd2"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["learning_rate"], weight_decay=config["weight_decay"],
        betas=(0.9, 0.99), eps=1e-8,
    )  # fmt: skip
    run = nanwatch.init(project="corpus", name="river-names", config=config)
    for step in range(config["max_steps"]):
        rows = [draw.randrange(len(train_set.words)) for _ in range(config["batch_size"])]
        loss = model(*train_set.batch(rows))
        model.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step > 0 and step % 100 == 0:
            with torch.no_grad():
                held = model(*test_set.batch(list(range(300))))
            run.log(loss=held, stage="val")
            print(f"step {step} loss {loss.item():.4f} test {held.item():.4f}")
    run.finish()
