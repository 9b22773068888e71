"""GRPO tunes a small pretrained generator of strings for a checker's reward: advantages are
normalised within groups, a KL term holds it near the reference, and the loss stays near zero."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=6)
CONFIG = {"pretrain_lr": 5e-3, "pretrain_steps": 200, "lr": 1.5e-3, "groups": 6, "group": 8,
          "epochs": 2, "clip": 0.2, "kl": 0.05, "max_norm": 1.0, "rounds": 260,
          "symbols": 8, "length": 8}  # fmt: skip


class Generator(nn.Module):
    """The next symbol from the two before and the place, which is enough for these strings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["symbols"] + 1, 12)
        self.place = nn.Embedding(CONFIG["length"], 8)
        self.net = nn.Sequential(
            nn.Linear(32, width), nn.Tanh(), nn.Linear(width, CONFIG["symbols"])
        )

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """[rows, length, symbols] for tokens [rows, length + 2] that begin with two blanks."""
        places = self.place.weight.expand(len(tokens), -1, -1)
        x = self.embed(tokens[:, :-1])
        return self.net(torch.cat([x[:, :-1], x[:, 1:], places], dim=2))

    def chances(self, tokens: torch.Tensor) -> torch.Tensor:
        logp = self.logits(tokens).log_softmax(2)
        return logp.gather(2, tokens[:, 2:, None])[:, :, 0]

    @torch.no_grad()
    def sample(self, prompts: torch.Tensor) -> torch.Tensor:
        tokens = torch.full((len(prompts), 2), CONFIG["symbols"])
        tokens = torch.cat([tokens, prompts[:, None]], dim=1)
        for place in range(1, CONFIG["length"]):
            x = self.embed(tokens[:, -2:]).flatten(1)
            here = self.place.weight[place].expand(len(x), -1)
            logits = self.net(torch.cat([x, here], dim=1))
            tokens = torch.cat([tokens, logits.softmax(1).multinomial(1)], dim=1)
        return tokens


def score(tokens: torch.Tensor) -> torch.Tensor:
    """Share of steps upwards by one or two, and a bonus for the right last symbol."""
    step = (tokens[:, 3:] - tokens[:, 2:-1]) % CONFIG["symbols"]
    return ((step == 1) | (step == 2)).float().mean(1) + (tokens[:, -1] == tokens[:, 2]).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="grpo-strings", config=config)
    policy = Generator(width)
    optimizer = torch.optim.Adam(policy.parameters(), lr=CONFIG["pretrain_lr"])
    run.mark("task", "pretraining")
    for _ in range(CONFIG["pretrain_steps"]):
        walk = torch.randint(0, 4, (32, CONFIG["length"])).cumsum(1) % CONFIG["symbols"]
        tokens = torch.cat([torch.full((32, 2), CONFIG["symbols"]), walk], dim=1)
        loss = F.cross_entropy(policy.logits(tokens).flatten(0, 1), walk.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.mark("task", "tuning")
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr, weight_decay=0.0)
    for _ in range(CONFIG["rounds"]):
        prompts = torch.randint(0, CONFIG["symbols"], (CONFIG["groups"],))
        tokens = policy.sample(prompts.repeat_interleave(CONFIG["group"]))
        rewards = score(tokens)
        grouped = rewards.view(-1, CONFIG["group"])
        spread = grouped.std(1, keepdim=True) + 1e-4
        advantage = ((grouped - grouped.mean(1, keepdim=True)) / spread).view(-1, 1)
        with torch.no_grad():
            before, far = policy.chances(tokens), reference.chances(tokens)
        for _ in range(CONFIG["epochs"]):
            now = policy.chances(tokens)
            ratio = (now - before).exp()
            clipped = ratio.clamp(1 - CONFIG["clip"], 1 + CONFIG["clip"])
            kl = (far - now).exp() - (far - now) - 1
            gain = torch.minimum(ratio * advantage, clipped * advantage)
            loss = (CONFIG["kl"] * kl - gain).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), CONFIG["max_norm"])
            optimizer.step()
        run.log(reward=rewards.mean(), kl=kl.mean())
    run.finish()
