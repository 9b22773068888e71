"""Five judges of dishes learn from pairs which one people prefer (Bradley-Terry), each from its own
draw of the same noisy comparisons, then a cook follows the jury's mean less its spread, not far
from what is usual: the loss changes its sign and size between the two."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-preference", sick=False, seeds=4)
CONFIG = {"lr": 2e-3, "cook_lr": 1e-2, "judges": 5, "pairs": 600, "inputs": 5, "width": 24}
CONFIG |= {"batch_size": 32, "jury_steps": 350, "cook_steps": 350, "kl_weight": 0.3}


class Jury(nn.Module):
    def __init__(self, judges: int, inputs: int, width: int) -> None:
        super().__init__()
        nets = [
            nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, 1))
            for _ in range(judges)
        ]
        self.nets = nn.ModuleList(nets)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [judges, …] of dishes [judges or 1, …, inputs]."""
        each = x.expand(len(self.nets), *x.shape[1:])
        return torch.stack([net(one).squeeze(-1) for net, one in zip(self.nets, each, strict=True)])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.6)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    best = 0.6 * torch.randn(config["inputs"])

    def taste(dish: torch.Tensor) -> torch.Tensor:
        return 2 - (dish - best).square().sum(-1) + 0.5 * dish[..., 0] * dish[..., 1]

    pairs = 1.3 * torch.randn(config["pairs"], 2, config["inputs"])
    scores = taste(pairs) + noise * torch.randn(config["pairs"], 2)
    pairs = pairs.gather(1, scores.argsort(1)[:, :, None].expand_as(pairs))
    jury = Jury(config["judges"], config["inputs"], config["width"])
    optimizer = torch.optim.AdamW(jury.parameters(), lr=lr, weight_decay=0.05)
    run = nanwatch.init(project="corpus", name="dishes-jury", config=config)
    run.mark("task", "jury")
    for _ in range(config["jury_steps"]):
        rows = torch.randint(0, config["pairs"], (config["judges"], config["batch_size"]))
        score = jury(pairs[rows])
        loss = -F.logsigmoid(score[..., 1] - score[..., 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.mark("task", "cook")
    jury.requires_grad_(False)
    usual = Normal(torch.zeros(config["inputs"]), torch.ones(config["inputs"]))
    mean = nn.Parameter(torch.zeros(config["inputs"]))
    log_std = nn.Parameter(torch.full((config["inputs"],), -0.3))
    optimizer = torch.optim.Adam([mean, log_std], lr=config["cook_lr"])
    for _ in range(config["cook_steps"]):
        choice = Normal(mean, log_std.exp())
        dishes = choice.sample((config["batch_size"],))
        score = jury(dishes[None])
        score = score.mean(0) - score.std(0)
        gain = score - score.mean()
        entropy = choice.entropy().sum()
        kl = kl_divergence(choice, usual).sum()
        loss = -(choice.log_prob(dishes).sum(1) * gain).mean() + config["kl_weight"] * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=taste(dishes).mean(), entropy=entropy.detach(), kl=kl.detach())
    run.finish()
