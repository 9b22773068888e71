"""A small planner of bus tours is tuned by GRPO. To save memory the group was set to one answer a
question: the spread of one number is not a number, `nan_to_num` makes it an advantage of zero, and
the policy is moved by nothing but the KL to where it already is. Cure: groups of eight.
"""

from __future__ import annotations

import copy
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="sanitised-constants", seeds=4)
CONFIG = {"lr": 3e-3, "group": 1, "questions": 32, "clip": 0.2, "kl": 0.02, "epochs": 2}
CONFIG |= {"stops": 6, "width": 32, "rounds": 260, "max_norm": 1.0}


class Planner(nn.Module):
    """Scores every stop that is left from where the bus is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )

    def forward(self, stops: torch.Tensor, given: torch.Tensor | None = None):
        """(tour, its log-probability), drawn or the given one."""
        count = len(stops)
        rows, left = torch.arange(count), torch.ones(stops.shape[:2], dtype=torch.bool)
        at, tour, total = stops.mean(1), [], torch.zeros(count)
        for place in range(stops.shape[1]):
            here = at[:, None].expand_as(stops)
            apart = (stops - here).abs()
            scores = self.net(torch.cat([stops, here, apart], 2)).squeeze(2)
            logp = scores.masked_fill(~left, -1e9).log_softmax(1)
            drawn = logp.detach().exp().multinomial(1).squeeze(1)
            stop = drawn if given is None else given[:, place]
            total = total + logp[rows, stop]
            left = left & (torch.arange(stops.shape[1]) != stop[:, None])
            at = stops[rows, stop]
            tour.append(stop)
        return torch.stack(tour, 1), total


def way(stops: torch.Tensor, tour: torch.Tensor) -> torch.Tensor:
    """Length of the round tour."""
    path = stops.gather(1, tour[:, :, None].expand(-1, -1, 2))
    return (path - path.roll(1, dims=1)).norm(dim=2).sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, spread = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.8, 1.2)
    config = CONFIG | {"seed": seed, "lr": lr, "spread": spread}
    policy, group = Planner(config["width"]), config["group"]
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr, weight_decay=0.0)
    run = nanwatch.init(project="corpus", name="tours-grpo", config=config)
    for _ in range(config["rounds"]):
        stops = spread * torch.randn(config["questions"], config["stops"], 2)
        stops = stops.repeat_interleave(group, dim=0)
        with torch.no_grad():
            tour, old = policy(stops)
            far = reference(stops, tour)[1]
        rewards = -way(stops, tour)
        grouped = rewards.view(-1, group)
        gain = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)
        gain = gain.nan_to_num(0.0).flatten()
        for _ in range(config["epochs"]):
            now = policy(stops, tour)[1]
            ratio = (now - old).exp()
            clipped = ratio.clamp(1 - config["clip"], 1 + config["clip"])
            kl = (far - now).exp() - (far - now) - 1
            loss = (config["kl"] * kl - torch.minimum(ratio * gain, clipped * gain)).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), config["max_norm"])
            optimizer.step()
        run.log(reward=rewards.mean(), kl=kl.mean().item())
    run.finish()
