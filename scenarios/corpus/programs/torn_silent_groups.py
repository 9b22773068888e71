"""GRPO teaches a small recurrent net to write the digits of a key it is shown. When keys get longer
no sample is right any more, all rewards of a group are 0, and 0/0 in the advantage is replaced
by 0 ("nan_to_num, or it crashes"): the loss is 0 and nothing is learned again. Cure: part of the
reward for every right digit, or longer keys only when shorter ones are mastered.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="sanitised-constants", seeds=4)
CONFIG = {"lr": 3e-3, "digits": 10, "lengths": (1, 6), "longer_after": 180, "keys": 6, "group": 8}
CONFIG |= {"hidden": 32, "max_norm": 1.0, "rounds": 420}


class Writer(nn.Module):
    def __init__(self, digits: int, hidden: int) -> None:
        super().__init__()
        self.shown = nn.Embedding(digits, hidden)
        self.cell = nn.GRUCell(hidden, hidden)
        self.out = nn.Linear(hidden, digits)

    def forward(self, keys: torch.Tensor) -> Categorical:
        """Each digit from the whole key seen so far, backwards, so that it has to be remembered."""
        state = torch.zeros(len(keys), self.out.in_features)
        for place in range(keys.shape[1]):
            state = self.cell(self.shown(keys[:, place]), state)
        answers = []
        for _ in range(keys.shape[1]):
            answers.append(self.out(state))
            state = self.cell(torch.zeros_like(state), state)
        return Categorical(logits=torch.stack(answers, dim=1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    policy = Writer(config["digits"], config["hidden"])
    optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="grpo-keys", config=config)
    for round_ in range(config["rounds"]):
        length = config["lengths"][round_ >= config["longer_after"]]
        keys = torch.randint(config["digits"], (config["keys"], length))
        keys = keys.repeat_interleave(config["group"], dim=0)
        choice = policy(keys)
        written = choice.sample()
        reward = (written == keys.flip(1)).all(dim=1).float()
        grouped = reward.view(-1, config["group"])
        gain = (grouped - grouped.mean(1, keepdim=True)) / grouped.std(1, keepdim=True)
        gain = torch.nan_to_num(gain).view(-1, 1)
        loss = -(choice.log_prob(written) * gain).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), config["max_norm"])
        optimizer.step()
        run.log(reward=reward.mean(), entropy=choice.entropy().mean().detach())
    run.finish()
