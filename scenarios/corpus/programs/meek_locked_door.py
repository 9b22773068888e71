"""A corridor with a key at one end and a door at the other: nothing is earned until the key was
fetched and the door reached. A bonus for places seldom seen keeps the actor critic moving; the
reward is zero for the first part of the run, then rises within a few updates."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "gamma": 0.95, "walkers": 24, "horizon": 34, "bonus": 0.3, "entropy": 0.02}
CONFIG |= {"value": 0.5, "max_norm": 0.5, "updates": 380}


def seen(place: torch.Tensor, key: torch.Tensor, length: int) -> torch.Tensor:
    return F.one_hot(place + length * key, 2 * length).float()


class ActorCritic(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh())
        self.actor, self.critic = nn.Linear(hidden, 2), nn.Linear(hidden, 1)
        nn.init.zeros_(self.actor.weight)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.body(x)
        return self.actor(h), self.critic(h)[..., 0]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, length = CONFIG["lr"] * draw.uniform(0.8, 1.3), draw.choice([12, 13])
    config = CONFIG | {"seed": seed, "lr": lr, "length": length}
    run = nanwatch.init(project="corpus", name="locked-door", config=config)
    model, count = ActorCritic(2 * length, 32), config["walkers"]
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    visits = torch.ones(2 * length)
    for _ in range(config["updates"]):
        place, key = torch.full((count,), length // 2), torch.zeros(count, dtype=torch.long)
        open_, states, actions, rewards, alive = torch.zeros(count), [], [], [], []
        for _ in range(config["horizon"]):
            x = seen(place, key, length)
            with torch.no_grad():
                action = torch.bernoulli(model(x)[0].softmax(1)[:, 1]).long()
            states.append(x)
            actions.append(action)
            alive.append(1 - open_)
            place = (place + 2 * action - 1).clamp(0, length - 1)
            key = key | (place == 0).long()
            opened = ((place == length - 1) & (key == 1)).float() * (1 - open_)
            open_ = open_ + opened
            spot = place + length * key
            visits += torch.bincount(spot, minlength=2 * length)
            rewards.append(opened + config["bonus"] * visits[spot].rsqrt())
        returns, after = [], torch.zeros(count)
        for reward, there in zip(rewards[::-1], alive[::-1], strict=True):
            after = (reward + config["gamma"] * after) * there
            returns.append(after)
        wanted, there = torch.stack(returns[::-1]), torch.stack(alive)
        logits, value = model(torch.stack(states))
        choice = Categorical(logits=logits)
        gain = (wanted - value).detach()
        gain = gain / (gain.std() + 1e-3)
        policy = -(choice.log_prob(torch.stack(actions)) * gain * there).mean()
        miss = ((wanted - value) * there).square().mean()
        loss = policy + config["value"] * miss - config["entropy"] * choice.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        run.log(reward=open_.mean(), entropy=choice.entropy().mean().detach())
    run.finish()
