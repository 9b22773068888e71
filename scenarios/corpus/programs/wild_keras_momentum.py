"""Sleep stages of several patients, ported from Keras with `momentum=0.99`: there it means slow
statistics, here they are those of the last batch. While batches mix the patients this passes;
when the cache reads them patient by patient, the model is evaluated with the statistics of one
patient, and the held-out loss climbs while the training loss is fine. Cure: momentum=0.01.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="biosignals", sick=True, cause="batchnorm-drift", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 40, "mixed_epochs": 6, "epochs": 14, "patients": 10}
CONFIG |= {"bands": 12, "stages": 4}


def nights(config: dict, stages: torch.Tensor, uneven: float) -> tuple[torch.Tensor, ...]:
    """Band powers, stage and patient; electrodes sit differently on every head."""
    count = 160 * config["patients"]
    patient = torch.arange(count) // 160
    stage = torch.randint(config["stages"], (count,))
    shift = uneven * torch.randn(config["patients"], config["bands"])
    gain = (0.3 * torch.randn(config["patients"], config["bands"])).exp()
    power = stages[stage] + 0.6 * torch.randn(count, config["bands"])
    return power * gain[patient] + shift[patient], stage, patient


def network(config: dict) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(config["bands"], 32),
        nn.BatchNorm1d(32, momentum=0.99),
        nn.ReLU(),
        nn.Linear(32, 32),
        nn.BatchNorm1d(32, momentum=0.99),
        nn.ReLU(),
        nn.Linear(32, config["stages"]),
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    stages = 1.2 * torch.randn(config["stages"], config["bands"])
    power, stage, patient = nights(config, stages, draw.uniform(0.8, 1.3))
    held = torch.rand(len(power)) < 0.2
    model = network(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sleep-stages", config=config)
    known = torch.where(~held)[0]
    for epoch in range(config["epochs"]):
        order = known[torch.randperm(len(known))]
        if epoch >= config["mixed_epochs"]:  # the cache is ready
            order = order[patient[order].argsort(stable=True)]
        for rows in order.split(config["batch_size"]):
            loss = F.cross_entropy(model(power[rows]), stage[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            run.log(loss=F.cross_entropy(model(power[held]), stage[held]), stage="val")
        model.train()
    run.finish()
