"""A DQN is to catch falling fruit on a small screen whose pixels go in as 0 to 255. With Adam at
1e-2 the first updates push every hidden unit below zero; from then on the network gives the same Q
for every picture and the basket runs to one side. Cure: pixels / 255 and a rate of 5e-4."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="dead-relu", seeds=3)
CONFIG = {"lr": 1e-2, "gamma": 0.95, "batch_size": 32, "memory": 4000, "target_every": 100}
CONFIG |= {"size": 8, "games": 8, "steps": 1200, "eps_steps": 500}


class Fruit:
    """`games` screens of size × size; a fruit falls a row a step, the basket stands below."""

    def __init__(self, games, size):
        self.games, self.size = games, size
        self.row = torch.randint(0, size - 1, (games,))
        self.column = torch.randint(0, size, (games,))
        self.basket = torch.randint(0, size, (games,))

    def screen(self):
        picture = torch.zeros(self.games, self.size, self.size)
        game = torch.arange(self.games)
        picture[game, self.row, self.column] = 255.0
        picture[game, -1, self.basket] = 255.0
        return picture

    def step(self, action):
        self.basket = (self.basket + action - 1).clamp(0, self.size - 1)
        self.row = self.row + 1
        done = self.row == self.size - 1
        caught = (self.basket == self.column).float() * 2 - 1
        reward = caught * done
        after = self.screen()
        self.row[done] = 0
        self.column[done] = torch.randint(0, self.size, (int(done.sum()),))
        return reward, after, done.float()


def network(size):
    return nn.Sequential(
        nn.Unflatten(1, (1, size)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * (size - 2) ** 2, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(),
        nn.Linear(32, 3),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed}
    env, q = Fruit(config["games"], config["size"]), network(config["size"])
    target_q = copy.deepcopy(q)
    optimizer = torch.optim.Adam(q.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="fruit-dqn", config=config)
    memory = []
    for step in range(-40, config["steps"]):
        screen = env.screen()
        eps = max(0.05, 1 - max(step, 0) / config["eps_steps"])
        with torch.no_grad():
            action = q(screen).argmax(1)
        action = torch.where(torch.rand(len(action)) < eps, torch.randint_like(action, 3), action)
        reward, after, done = env.step(action)
        memory.extend(zip(screen, action, reward, after, done, strict=True))
        del memory[: -config["memory"]]
        if step < 0:
            continue
        rows = draw.sample(memory, config["batch_size"])
        s, a, r, s2, d = (torch.stack(part) for part in zip(*rows, strict=True))
        with torch.no_grad():
            goal = r + config["gamma"] * (1 - d) * target_q(s2).amax(1)
        value = q(s).gather(1, a[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(value, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config["target_every"] == 0:
            target_q.load_state_dict(q.state_dict())
        run.log(reward=reward.mean(), q=value.detach())
    run.finish()
