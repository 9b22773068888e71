"""A double DQN with noisy layers in the place of epsilon-greedy, returns over three steps, a soft
target and Huber loss looks for food on a ring of cells with a wall that comes and goes. Values
climb from zero for most of the training and level off. Nothing is wrong."""

from __future__ import annotations

import copy
import random
from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=False, seeds=3)
CONFIG = {"lr": 5e-4, "gamma": 0.95, "batch_size": 64, "envs": 12, "updates": 1500, "hidden": 64}
CONFIG |= {"tau": 0.01, "n_step": 3, "buffer_size": 12_000, "max_norm": 10.0}


class NoisyLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int, sigma: float = 0.5) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), sigma * bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs, inputs = self.weight.shape
        a, b = torch.randn(inputs), torch.randn(outputs)
        a, b = a.sign() * a.abs().sqrt(), b.sign() * b.abs().sqrt()
        weight = self.weight + self.weight_sigma * torch.outer(b, a)
        return F.linear(x, weight, self.bias + self.bias_sigma * b)


class Ring:
    """Cells in a ring; food somewhere; a wall that is open every other few steps."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.rng, self.size, self.count = np.random.default_rng(seed), size, count
        self.place, self.food = self.rng.integers(0, size, (2, count))
        self.clock = self.rng.integers(0, 8, count)

    def observe(self) -> np.ndarray:
        eye = np.eye(self.size, dtype=np.float32)
        open_ = (self.clock % 8 < 4).astype(np.float32)[:, None]
        return np.concatenate([eye[self.place], eye[self.food], open_], 1)

    def step(self, action: np.ndarray) -> np.ndarray:
        after = (self.place + action - 1) % self.size
        blocked = (self.clock % 8 >= 4) & (after == 0) & (self.place != 0)
        self.place = np.where(blocked, self.place, after)
        self.clock += 1
        found = self.place == self.food
        self.food = np.where(found, self.rng.integers(0, self.size, self.count), self.food)
        return found.astype(np.float32) - 0.02


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.6)}
    size, hidden, steps = draw.choice([8, 10]), config["hidden"], config["n_step"]
    env = Ring(config["envs"], size, seed)
    q_net = nn.Sequential(nn.Linear(2 * size + 1, hidden), nn.ReLU(),
                          NoisyLinear(hidden, hidden), nn.ReLU(),
                          NoisyLinear(hidden, 3))  # fmt: skip
    q_target = copy.deepcopy(q_net)
    optimizer = torch.optim.Adam(q_net.parameters(), lr=config["lr"])
    memory, last = deque(maxlen=config["buffer_size"]), deque(maxlen=steps)
    run = nanwatch.init(project="corpus", name="ring-food", config=config)
    for step in range(config["updates"] + 40):
        obs = env.observe()
        with torch.no_grad():
            action = q_net(torch.from_numpy(obs)).argmax(1).numpy()
        reward = env.step(action)
        last.append((obs, action, reward))
        if len(last) == steps:
            total = sum(config["gamma"] ** i * paid for i, (*_, paid) in enumerate(last))
            memory.extend(zip(last[0][0], last[0][1], total, env.observe(), strict=True))
        if step < 40:
            continue
        rows = [memory[i] for i in rng.integers(0, len(memory), config["batch_size"])]
        before, did, paid, after = (torch.from_numpy(np.array(c)) for c in zip(*rows, strict=True))
        with torch.no_grad():
            best = q_net(after).argmax(1, keepdim=True)
            future = q_target(after).gather(1, best).squeeze(1)
            goal = paid.float() + config["gamma"] ** steps * future
        loss = F.smooth_l1_loss(q_net(before).gather(1, did.unsqueeze(1)).squeeze(1), goal)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q_net.parameters(), config["max_norm"])
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(q_target.parameters(), q_net.parameters(), strict=True):
                slow.lerp_(fast, config["tau"])
        run.log(reward=float(reward.mean()))
    run.finish()
