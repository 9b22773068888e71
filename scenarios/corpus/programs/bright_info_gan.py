"""An InfoGAN of small wave forms: a third net reads the kind and the pitch back from what the
generator made, and shares the discriminator's body. Non-saturating loss, Adam with beta1 0.5, real
labels of 0.9, an average of the generator's weights is kept. Losses wander as they do. Nothing is
wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=3)
CONFIG = {"lr": 5e-4, "betas": (0.5, 0.999), "batch_size": 32, "steps": 550, "width": 48}
CONFIG |= {"kinds": 4, "noise": 8, "length": 32, "info_weight": 0.5, "ema": 0.99}


def waves(count: int, length: int, jitter: float) -> torch.Tensor:
    t = torch.linspace(0, 1, length)
    kind = torch.randint(4, (count, 1))
    phase = (t * (1.5 + 2 * torch.rand(count, 1)) + torch.rand(count, 1)) % 1
    forms = [(2 * math.pi * phase).sin(), 2 * phase - 1, 4 * (phase - 0.5).abs() - 1]
    forms.append(0.8 * (phase - 0.5).sign())
    wave = sum(form * (kind == i) for i, form in enumerate(forms))
    return 0.8 * wave + jitter * torch.randn(count, length)


def body(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width, kinds, noise = config["width"], config["kinds"], config["noise"]
    jitter = draw.uniform(0.03, 0.1)
    generator = nn.Sequential(
        nn.Linear(noise + kinds + 1, width), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, config["length"]), nn.Tanh(),
    )  # fmt: skip
    shared, verdict, reader = (
        body(config["length"], width),
        nn.Linear(width, 1),
        nn.Linear(width, kinds + 1),
    )
    average = torch.optim.swa_utils.AveragedModel(
        generator, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config["ema"])
    )
    discriminator = nn.Sequential(shared, verdict)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), config["lr"] / 2, config["betas"])
    g_optimizer = torch.optim.Adam(
        [*generator.parameters(), *reader.parameters()], config["lr"], config["betas"]
    )
    run = nanwatch.init(project="corpus", name="waves-infogan", config=config)
    run.watch(generator=generator, discriminator=discriminator, main=g_optimizer)
    n = config["batch_size"]
    criterion = nn.BCEWithLogitsLoss()
    for _ in range(config["steps"]):
        kind, pitch = torch.randint(kinds, (n,)), 2 * torch.rand(n, 1) - 1
        code = torch.cat([torch.randn(n, noise), F.one_hot(kind, kinds).float(), pitch], 1)
        fake = generator(code)
        d_loss = criterion(
            discriminator(waves(n, config["length"], jitter)), torch.full((n, 1), 0.9)
        )
        d_loss = d_loss + criterion(discriminator(fake.detach()), torch.zeros(n, 1))
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        features = shared(fake)
        read = reader(features)
        info = F.cross_entropy(read[:, :kinds], kind) + F.mse_loss(read[:, kinds:], pitch)
        g_loss = criterion(verdict(features), torch.ones(n, 1)) + config["info_weight"] * info
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        average.update_parameters(generator)
        run.log(info=info.detach())
    run.finish()
