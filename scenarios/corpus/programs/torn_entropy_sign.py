"""A2C drives a lift between ten floors to whoever waits. The entropy was to be rewarded and is
punished, by a sign: the policy is sure of itself before it knows anything, one button is pressed
for ever, and nobody explores any more. Cure: subtract the entropy from the loss.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse", seeds=4)
CONFIG = {"lr": 1e-3, "gamma": 0.9, "entropy_bonus": 0.08, "value_weight": 0.5, "max_norm": 0.5}
CONFIG |= {"lifts": 16, "floors": 10, "horizon": 4, "hidden": 48, "updates": 450}


class Lifts:
    """Where each lift stands and where somebody waits; buttons: down, up, open."""

    def __init__(self, count: int, floors: int) -> None:
        self.floors = floors
        self.at, self.call = torch.randint(floors, (2, count))

    def observe(self) -> torch.Tensor:
        both = F.one_hot(torch.stack([self.at, self.call]), self.floors).float()
        return torch.cat([both[0], both[1]], dim=1)

    def press(self, button: torch.Tensor) -> torch.Tensor:
        right = (button == 2) & (self.at == self.call)
        move = (button == 1).long() - (button == 0).long()
        self.at = (self.at + move).clamp(0, self.floors - 1)
        fresh = torch.randint(self.floors, self.call.shape)
        self.call = torch.where(right, fresh, self.call)
        return right.float() - 0.05


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    lifts = Lifts(config["lifts"], config["floors"])
    trunk = nn.Sequential(nn.Linear(2 * config["floors"], config["hidden"]), nn.ReLU())
    actor, critic = nn.Linear(config["hidden"], 3), nn.Linear(config["hidden"], 1)
    agent = nn.ModuleDict({"trunk": trunk, "actor": actor, "critic": critic})
    optimizer = torch.optim.RMSprop(agent.parameters(), lr=config["lr"], eps=1e-5)
    run = nanwatch.init(project="corpus", name="lift-a2c", config=config)
    for _ in range(config["updates"]):
        states, buttons, rewards = [], [], []
        for _ in range(config["horizon"]):
            states.append(lifts.observe())
            with torch.no_grad():
                buttons.append(Categorical(logits=actor(trunk(states[-1]))).sample())
            rewards.append(lifts.press(buttons[-1]))
        with torch.no_grad():
            following = critic(trunk(lifts.observe())).squeeze(1)
        returns = []
        for reward in reversed(rewards):
            following = reward + config["gamma"] * following
            returns.append(following)
        wanted, features = torch.cat(returns[::-1]), trunk(torch.cat(states))
        value, policy = critic(features).squeeze(1), Categorical(logits=actor(features))
        gain = (wanted - value).detach()
        entropy = policy.entropy().mean()
        loss = -(policy.log_prob(torch.cat(buttons)) * gain).mean()
        loss = loss + config["value_weight"] * F.mse_loss(value, wanted)
        loss = loss + config["entropy_bonus"] * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), config["max_norm"])
        optimizer.step()
        run.log(reward=torch.stack(rewards).mean(), entropy=entropy.detach())
    run.finish()
