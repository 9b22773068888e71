"""A writer of short strings is tuned (REINFORCE with a leave-one-out baseline) against a judge
learned from a few comparisons. The controller of the KL penalty is upside down: above the wanted KL
the penalty is made smaller, so nothing holds the writer, which soon writes one string that the
judge overrates. Cure: turn the controller's ratio round.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse", seeds=4)
CONFIG = {"lr": 6e-3, "kl_weight": 0.1, "kl_wanted": 1.0, "letters": 10, "length": 6}
CONFIG |= {"batch_size": 48, "hidden": 48, "judge_steps": 120, "steps": 320}


class Writer(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["letters"] + 1, 16)
        self.cell = nn.GRUCell(16, hidden)
        self.head = nn.Linear(hidden, CONFIG["letters"])

    def forward(self, count: int, given: torch.Tensor | None = None):
        """Letters [count, length] (drawn, or the given) and log-probabilities of all letters."""
        letter = torch.full((count,), CONFIG["letters"])
        state = torch.zeros(count, self.cell.hidden_size)
        letters, logps = [], []
        for place in range(CONFIG["length"]):
            state = self.cell(self.embed(letter), state)
            logps.append(self.head(state).log_softmax(1))
            drawn = logps[-1].detach().exp().multinomial(1).squeeze(1)
            letter = drawn if given is None else given[:, place]
            letters.append(letter)
        return torch.stack(letters, 1), torch.stack(logps, 1)


def truth(text: torch.Tensor) -> torch.Tensor:
    """Readers like letters that rise, and dislike the same letter twice."""
    step = text[:, 1:] - text[:, :-1]
    return (step > 0).float().sum(1) - 2 * (step == 0).float().sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, pairs = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.randint(150, 300)
    config = CONFIG | {"seed": seed, "lr": lr, "pairs": pairs}
    letters, length = config["letters"], config["length"]
    run = nanwatch.init(project="corpus", name="strings-judge", config=config)
    judge = nn.Sequential(nn.Linear(letters * length, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    first = torch.randint(0, letters, (pairs, length))
    second = torch.randint(0, letters, (pairs, length))
    better = (truth(first) > truth(second)).float()
    run.mark("task", "judge")
    for _ in range(config["judge_steps"]):
        rows = torch.randint(0, pairs, (32,))
        one, other = (F.one_hot(text[rows], letters).float() for text in (first, second))
        margin = (judge(one.flatten(1)) - judge(other.flatten(1))).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(margin, better[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.mark("task", "writer")
    judge.requires_grad_(False)
    writer = Writer(config["hidden"])
    reference = copy.deepcopy(writer).requires_grad_(False)
    optimizer = torch.optim.Adam(writer.parameters(), lr=lr)
    kl_weight, count = config["kl_weight"], config["batch_size"]
    for _ in range(config["steps"]):
        text, logps = writer(count)
        with torch.no_grad():
            score = judge(F.one_hot(text, letters).float().flatten(1)).squeeze(1)
            far = reference(count, text)[1]
            gain = score - (score.sum() - score) / (count - 1)
        kl = (logps.exp() * (logps - far)).sum(2).sum(1)
        chosen = logps.gather(2, text[:, :, None]).squeeze(2).sum(1)
        loss = (kl_weight * kl - gain * chosen).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(writer.parameters(), 5.0)
        optimizer.step()
        kl_weight *= 0.95 if kl.mean().item() > config["kl_wanted"] else 1.05
        entropy = -(logps.exp() * logps).sum(2).mean()
        run.log(reward=score.mean(), kl=kl.mean().item(), entropy=entropy.item())
    run.finish()
