"""Imitation by an adversary (GAIL) on a course with obstacles: the discriminator tells clumsy from
expert steps soon and then loses, so that its loss rises again towards twice the logarithm of two,
while the true reward, which nobody trains on, rises.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="adversarial-imitation", sick=False, seeds=4)
CONFIG = {"lr": 3e-3, "lr_d": 8e-3, "entropy_bonus": 0.05, "gamma": 0.8, "walkers": 24}
CONFIG |= {"horizon": 6, "hidden": 32, "rounds": 410}


class Course:
    """A lane of three tracks; the next two obstacles are seen; actions: left, straight, right."""

    def __init__(self, walkers: int) -> None:
        self.track = torch.randint(3, (walkers,))
        self.ahead = torch.randint(3, (walkers, 2))

    def observe(self) -> torch.Tensor:
        seen = torch.cat([self.track[:, None], self.ahead], dim=1)
        return F.one_hot(seen, 3).float().flatten(1)

    def step(self, action: torch.Tensor) -> torch.Tensor:
        self.track = (self.track + action - 1).clamp(0, 2)
        reward = (self.track != self.ahead[:, 0]).float()
        self.ahead = torch.stack([self.ahead[:, 1], torch.randint(3, self.track.shape)], dim=1)
        return reward


def expert(course: Course) -> torch.Tensor:
    """Stays where it is safe, else steps aside, to the middle where it can."""
    blocked = course.track == course.ahead[:, 0]
    aside = torch.where(course.track == 0, 2, torch.where(course.track == 2, 0, 0))
    return torch.where(blocked, aside, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    hidden, slip = config["hidden"], draw.uniform(0.0, 0.08)
    policy = nn.Sequential(nn.Linear(9, hidden), nn.Tanh(), nn.Linear(hidden, 3))
    judge = nn.Sequential(nn.Linear(12, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, 1))
    optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    optimizer_d = torch.optim.Adam(judge.parameters(), lr=config["lr_d"], weight_decay=1e-4)
    run = nanwatch.init(project="corpus", name="gail-course", config=config)
    run.watch(policy=policy, judge=judge)
    course, shown = Course(config["walkers"]), Course(config["walkers"])
    for _ in range(config["rounds"]):
        states, actions, rewards, examples = [], [], [], []
        for _ in range(config["horizon"]):
            action = torch.where(
                torch.rand(len(shown.track)) < slip,
                torch.randint(3, shown.track.shape),
                expert(shown),
            )
            examples.append(torch.cat([shown.observe(), F.one_hot(action, 3).float()], dim=1))
            shown.step(action)
            states.append(course.observe())
            with torch.no_grad():
                actions.append(Categorical(logits=policy(states[-1])).sample())
            rewards.append(course.step(actions[-1]))
        obs, action = torch.cat(states), torch.cat(actions)
        done = torch.cat([obs, F.one_hot(action, 3).float()], dim=1)
        real, fake = judge(torch.cat(examples)), judge(done)
        loss_d = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        loss_d = loss_d + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        with torch.no_grad():
            praise = F.logsigmoid(judge(done)).view(config["horizon"], -1)
        following, gains = torch.zeros(config["walkers"]), []
        for one in praise.flip(0):
            following = one + config["gamma"] * following
            gains.append(following)
        gain = torch.stack(gains[::-1])
        gain = ((gain - gain.mean(1, keepdim=True)) / (gain.std() + 1e-6)).flatten()
        choice = Categorical(logits=policy(obs))
        entropy = choice.entropy().mean()
        loss = -(choice.log_prob(action) * gain).mean() - config["entropy_bonus"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=torch.stack(rewards).mean(), entropy=entropy.detach())
    run.finish()
