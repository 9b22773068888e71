"""Which song comes next in a playlist? A causal transformer over the last songs (SASRec): for each
place one song that came and one at random, binary cross entropy, dropout, padding in front of short
lists, embeddings shared with the output. Hit rate at 10 is looked at now and then. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "betas": (0.9, 0.98), "batch_size": 48, "steps": 500, "songs": 300}
CONFIG |= {"length": 20, "width": 32, "dropout": 0.2, "listeners": 1200}


class SasRec(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.songs = nn.Embedding(config["songs"] + 1, width, padding_idx=0)
        self.place = nn.Embedding(config["length"], width)
        self.dropout = nn.Dropout(config["dropout"])
        layer = nn.TransformerEncoderLayer(
            width, 2, width, config["dropout"], batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), False)
        nn.init.normal_(self.songs.weight, std=0.05)

    def forward(self, heard: torch.Tensor) -> torch.Tensor:
        length = heard.shape[1]
        x = self.dropout(self.songs(heard) + self.place(torch.arange(length)))
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        return self.layers(x, mask=mask, is_causal=True)


def playlists(config: dict, habit: float) -> torch.Tensor:
    """Walks through genres and within them; 0 where a list has not begun yet."""
    songs, length, count = config["songs"], config["length"] + 1, config["listeners"]
    genre = torch.randint(15, (songs,))
    like = 3 * habit * (genre[:, None] == genre).float() + habit * torch.randn(songs, songs)
    chance = (like - 0.5 * torch.arange(1, songs + 1).float().log()).softmax(1)
    lists = [torch.randint(songs, (count,))]
    for _ in range(length - 1):
        lists.append(torch.multinomial(chance[lists[-1]], 1).squeeze(1))
    begun = torch.arange(length) >= torch.randint(0, length - 4, (count, 1))
    return (torch.stack(lists, 1) + 1) * begun


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    lists = playlists(config, draw.uniform(1.0, 1.6))
    held, lists = lists[:150], lists[150:]
    model = SasRec(config)
    optimizer = torch.optim.Adam(model.parameters(), config["lr"], config["betas"])
    run = nanwatch.init(project="corpus", name="playlists", config=config)
    for step in range(config["steps"]):
        rows = lists[torch.randint(len(lists), (config["batch_size"],))]
        heard, came = rows[:, :-1], rows[:, 1:]
        other = torch.randint(1, config["songs"] + 1, came.shape)
        state = model(heard)
        yes, no = ((state * model.songs(song)).sum(2) for song in (came, other))
        counts = came > 0
        loss = (F.softplus(-yes) + F.softplus(no))[counts].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            model.eval()
            with torch.no_grad():
                score = model(held[:, :-1])[:, -1] @ model.songs.weight.T
            hit = (score.topk(10, 1).indices == held[:, -1:]).any(1).float().mean()
            run.log(hit_rate=hit, stage="val")
            model.train()
    run.finish()
