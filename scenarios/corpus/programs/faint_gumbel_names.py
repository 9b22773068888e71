"""A GAN writes names of six letters with a Gumbel softmax. Its temperature is annealed within
fifty steps to a fiftieth: letters are as good as discrete, the generator's gradient is zero nearly
everywhere, and a discriminator with ten times its rate leaves it behind. Cure: anneal slowly.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse", seeds=4)
CONFIG = {"lr": 3e-4, "lr_d": 3e-3, "letters": 12, "length": 6, "noise": 8, "batch_size": 20}
CONFIG |= {"temperature": 1.0, "coldest": 0.02, "anneal": 50, "hidden": 48, "steps": 450}


def names(habits: torch.Tensor, count: int) -> torch.Tensor:
    """One-hot letters of a Markov chain."""
    letter = torch.randint(0, CONFIG["letters"], (count,))
    found = [letter]
    for _ in range(CONFIG["length"] - 1):
        letter = torch.multinomial(habits[letter], 1).squeeze(1)
        found.append(letter)
    return F.one_hot(torch.stack(found, 1), CONFIG["letters"]).float()


class Writer(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.start = nn.Linear(CONFIG["noise"], hidden)
        self.cell = nn.GRUCell(CONFIG["letters"], hidden)
        self.out = nn.Linear(hidden, CONFIG["letters"])

    def forward(self, z: torch.Tensor, temperature: float) -> torch.Tensor:
        state, letter, found = torch.tanh(self.start(z)), z.new_zeros(len(z), 12), []
        for _ in range(CONFIG["length"]):
            state = self.cell(letter, state)
            letter = F.gumbel_softmax(self.out(state), tau=temperature)
            found.append(letter)
        return torch.stack(found, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["hidden"] = draw.choice([40, 48])
    habits = (8.0 * torch.randn(CONFIG["letters"], CONFIG["letters"])).softmax(1)
    writer = Writer(config["hidden"])
    reader = nn.Sequential(
        nn.Flatten(), nn.Linear(CONFIG["letters"] * CONFIG["length"], 96), nn.LeakyReLU(0.2),
        nn.Linear(96, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(writer.parameters(), lr=config["lr"], betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(reader.parameters(), lr=config["lr_d"], betas=(0.5, 0.999))
    run = nanwatch.init(project="corpus", name="names-gan", config=config)
    run.watch(writer=writer, reader=reader)
    batch = CONFIG["batch_size"]
    for step in range(CONFIG["steps"]):
        cold = CONFIG["coldest"] ** min(1.0, step / CONFIG["anneal"])
        fake = writer(torch.randn(batch, CONFIG["noise"]), cold * CONFIG["temperature"])
        real = names(habits, batch)
        loss_d = F.softplus(-reader(real)).mean() + F.softplus(reader(fake.detach())).mean()
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        loss_g = F.softplus(-reader(fake)).mean()
        optimizer.zero_grad()
        loss_g.backward()
        optimizer.step()
    run.finish()
