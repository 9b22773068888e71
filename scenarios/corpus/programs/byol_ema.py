"""Self-supervision without negatives: a predictor chases an EMA copy of its own encoder. The loss
falls fast, rises again while the features spread out, and never says how good they are."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="self-supervised", sick=False, seeds=7)
CONFIG = {"lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 64, "ema": 0.98}
STEPS = 700


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="byol", config=config)
    centres, mixing = 0.9 * torch.randn(8, 10), torch.randn(10, 24)

    def things(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(0, 8, (count,))
        return torch.tanh(0.5 * (centres[label] + 0.5 * torch.randn(count, 10)) @ mixing), label

    def view(x: torch.Tensor) -> torch.Tensor:
        """Some inputs masked, some noise: two views of a thing differ in this."""
        return x * (torch.rand_like(x) > 0.25) + 0.2 * torch.randn_like(x)

    online = nn.Sequential(
        nn.Linear(24, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 16)
    )
    predictor = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.SGD(
        [*online.parameters(), *predictor.parameters()],
        lr=lr,
        momentum=CONFIG["momentum"],
        weight_decay=CONFIG["weight_decay"],
    )

    def probe() -> torch.Tensor:
        """Accuracy of the nearest class mean in the features."""
        online.eval()
        with torch.no_grad():
            (x, label), (held, wanted) = things(400), things(400)
            features, held_features = online(x), online(held)
        online.train()
        means = torch.stack([features[label == c].mean(0) for c in range(8)])
        return (torch.cdist(held_features, means).argmin(1) == wanted).float().mean()

    for step in range(STEPS):
        x, _ = things(CONFIG["batch_size"])
        left, right = view(x), view(x)
        loss = torch.zeros(())
        for one, other in ((left, right), (right, left)):
            with torch.no_grad():
                wanted = F.normalize(target(other), dim=1)
            made = F.normalize(predictor(online(one)), dim=1)
            loss = loss + 2 - 2 * (made * wanted).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.lerp_(fast, 1 - CONFIG["ema"])
        if step % 100 == 99:
            run.log(accuracy=probe(), stage="val")
    run.finish()
