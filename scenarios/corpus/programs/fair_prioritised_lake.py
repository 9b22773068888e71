"""A duelling DQN with prioritised replay and returns over three steps crosses a slippery lake with
holes; weights of importance make batches unequal, and the target follows softly."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "gamma": 0.97, "batch_size": 64, "tau": 0.02, "alpha": 0.6, "beta": 0.4,
          "n_step": 3, "envs": 10, "size": 5, "updates": 800, "max_grad_norm": 10.0}  # fmt: skip


class Lake:
    """5x5, two holes, slips in one step of ten; 1 at the goal, -0.5 in a hole, -0.01 a step."""

    def __init__(self, copies: int, draw: np.random.Generator) -> None:
        self.draw, self.copies, size = draw, copies, CONFIG["size"]
        self.pays = np.zeros((size, size))
        for hole in draw.choice([8, 11, 13, 16, 17], 2, replace=False):
            self.pays[divmod(int(hole), size)] = -0.5
        self.pays[-1, -1] = 1
        self.at, self.age = self.fresh(copies), np.zeros(copies, int)

    def observe(self) -> np.ndarray:
        size = CONFIG["size"]
        return np.eye(size * size, dtype=np.float32)[self.at[:, 0] * size + self.at[:, 1]]

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(reward, done, cut off)"""
        slips = self.draw.random(self.copies) < 0.1
        action = np.where(slips, self.draw.integers(0, 4, self.copies), action)
        moves = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
        self.at = np.clip(self.at + moves[action], 0, CONFIG["size"] - 1)
        found = self.pays[self.at[:, 0], self.at[:, 1]]
        self.age += 1
        return found - 0.01, found != 0, (found == 0) & (self.age >= 40)

    def reset(self, over: np.ndarray) -> None:
        self.at[over] = self.fresh(int(over.sum()))
        self.age[over] = 0

    def fresh(self, count: int) -> np.ndarray:
        """Anywhere in the upper left part, which has no hole."""
        return self.draw.integers(0, 2, (count, 2))


class Memory:
    """Transitions over up to three steps, sampled by the size of their last error."""

    def __init__(self, draw: np.random.Generator) -> None:
        self.draw, self.count = draw, 0
        self.rows, self.priority = [None] * 4000, np.zeros(4000)
        self.recent = [[] for _ in range(CONFIG["envs"])]

    def add(self, seen, action, reward, after, done, over) -> None:
        for i, kept in enumerate(self.recent):
            kept.append((seen[i], action[i], reward[i]))
            while kept and (over[i] or len(kept) == CONFIG["n_step"]):
                paid = sum(CONFIG["gamma"] ** k * one[2] for k, one in enumerate(kept))
                place = self.count % len(self.rows)
                self.rows[place] = (*kept[0][:2], paid, after[i], float(done[i]), len(kept))
                self.priority[place] = max(1.0, self.priority.max())
                self.count += 1
                kept.pop(0)

    def sample(self) -> tuple[np.ndarray, torch.Tensor, list[np.ndarray]]:
        size = min(self.count, len(self.rows))
        chance = self.priority[:size] ** CONFIG["alpha"]
        chance /= chance.sum()
        rows = self.draw.choice(size, CONFIG["batch_size"], p=chance)
        weight = torch.from_numpy((size * chance[rows]) ** -CONFIG["beta"]).float()
        picked = zip(*(self.rows[row] for row in rows), strict=True)
        return rows, weight / weight.max(), [np.array(column, np.float32) for column in picked]


class Duelling(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, width), nn.ReLU())
        self.value, self.gain = nn.Linear(width, 1), nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.body(x)
        gain = self.gain(h)
        return self.value(h) + gain - gain.mean(1, keepdim=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    width, gamma = int(draw.choice([48, 64])), CONFIG["gamma"]
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4), "width": width}
    run = nanwatch.init(project="corpus", name="prioritised-lake", config=config)
    env = Lake(CONFIG["envs"], draw)
    online = Duelling(CONFIG["size"] ** 2, width)
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.Adam(online.parameters(), lr=config["lr"])
    memory, got = Memory(draw), -0.3
    for update in range(-60, CONFIG["updates"]):
        seen = env.observe()
        with torch.no_grad():
            action = online(torch.from_numpy(seen)).argmax(1).numpy()
        explores = draw.random(len(action)) < max(0.05, 1 - update / 350)
        action = np.where(explores, draw.integers(0, 4, len(action)), action)
        reward, done, cut = env.step(action)
        after = env.observe()
        memory.add(seen, action, reward, after, done, done | cut)
        if done.any():
            got += 0.02 * (float(reward[done].mean()) - got)
        env.reset(done | cut)
        if update < 0:
            continue
        rows, weight, columns = memory.sample()
        before, taken, paid, then, over, steps = map(torch.from_numpy, columns)
        with torch.no_grad():
            best = online(then).argmax(1, keepdim=True)
            wanted = paid + gamma**steps * (1 - over) * target(then).gather(1, best)[:, 0]
        found = online(before).gather(1, taken.long()[:, None])[:, 0]
        gap = wanted - found
        loss = (weight * gap.square()).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(online.parameters(), CONFIG["max_grad_norm"])
        optimizer.step()
        memory.priority[rows] = gap.detach().abs().numpy() + 0.01
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.lerp_(fast, CONFIG["tau"])
        run.log(reward=got, q=found)
    run.finish()
