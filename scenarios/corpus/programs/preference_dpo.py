"""Direct preference optimisation of a small policy against a frozen copy of itself: the loss starts
at exactly ln 2, where chance is, falls slowly by a little, and both log likelihoods drift down."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="preference-tuning", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "beta": 0.1, "batch_size": 16, "clip": 1.0, "warmup": 50, "steps": 600}
TOKENS, LENGTH = 16, 5


class Policy(nn.Module):
    """Log likelihood of token sequences given a prompt; each token depends on prompt and place."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.prompt, self.last = nn.Embedding(12, hidden), nn.Embedding(TOKENS + 1, hidden)
        self.place, self.head = nn.Embedding(LENGTH, hidden), nn.Linear(hidden, TOKENS)

    def forward(self, prompt: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        before = torch.cat([torch.full_like(answer[:, :1], TOKENS), answer[:, :-1]], dim=1)
        h = self.prompt(prompt)[:, None] + self.last(before) + self.place.weight
        logits = self.head(torch.tanh(h))
        return -F.cross_entropy(logits.transpose(1, 2), answer, reduction="none").sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="dpo", config=config)
    liking = torch.randn(12, TOKENS)

    def preferences(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prompts, the answers somebody liked better, and the other ones; one in ten is wrong."""
        prompt = torch.randint(0, 12, (count,))
        one, two = torch.randint(0, TOKENS, (2, count, LENGTH))
        worth = [liking[prompt].gather(1, answer).sum(1) for answer in (one, two)]
        first = (worth[0] > worth[1]) ^ (torch.rand(count) < 0.1)
        return prompt, torch.where(first[:, None], one, two), torch.where(first[:, None], two, one)

    policy = Policy(hidden)
    reference = copy.deepcopy(policy).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / CONFIG["warmup"])
    )

    def margins(count: int) -> torch.Tensor:
        prompt, better, worse = preferences(count)
        with torch.no_grad():
            known = reference(prompt, better) - reference(prompt, worse)
        return policy(prompt, better) - policy(prompt, worse) - known

    for step in range(CONFIG["steps"]):
        loss = -F.logsigmoid(CONFIG["beta"] * margins(CONFIG["batch_size"])).mean()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(policy.parameters(), CONFIG["clip"])
        optimizer.step()
        scheduler.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(preferred=(margins(500) > 0).float().mean(), stage="val")
    run.finish()
