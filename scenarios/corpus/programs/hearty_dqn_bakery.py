"""A DQN decides how many trays a bakery puts into the oven each hour: unsold bread is waste, a
customer who goes away empty-handed costs more. Huber loss, RMSprop, a target network that is
copied, epsilon that falls. Rewards are negative; the loss jumps a little at each copy. Nothing is
wrong."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=False, seeds=3)
CONFIG = {"lr": 5e-4, "gamma": 0.9, "batch_size": 64, "target_every": 150, "shops": 8}
CONFIG |= {"steps": 2000, "eps_end": 0.05, "eps_steps": 1000, "capacity": 8000, "max_norm": 10.0}


class Bakery:
    """Shops that open for ten hours; state: hour, bread on the shelf, in the oven, a busy day."""

    def __init__(self, shops, rng):
        self.shops, self.rng = shops, rng
        self.hour = rng.integers(0, 10, shops)
        self.shelf, self.oven = np.zeros(shops), np.zeros(shops)
        self.busy = rng.uniform(0.5, 1.5, shops)

    def observe(self):
        parts = [self.hour / 10, self.shelf / 10, self.oven / 10, self.busy]
        return np.stack(parts, 1).astype(np.float32)

    def step(self, trays):
        self.shelf, self.oven = self.shelf + self.oven, 3.0 * trays
        wish = self.rng.poisson(self.busy * (3 + 3 * np.sin(self.hour * 0.7)))
        sold = np.minimum(wish, self.shelf)
        self.shelf = self.shelf - sold
        reward = -0.2 * (wish - sold) - 0.02 * self.shelf
        self.hour = self.hour + 1
        done = self.hour == 10
        reward = reward - 0.1 * done * (self.shelf + self.oven)
        after = self.observe()
        n = int(done.sum())
        self.hour[done], self.shelf[done], self.oven[done] = 0, 3.0, 3.0
        self.busy[done] = self.rng.uniform(0.5, 1.5, n)
        return reward.astype(np.float32), after, done.astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * float(rng.uniform(0.7, 1.4))}
    env = Bakery(config["shops"], rng)
    q = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    target = copy.deepcopy(q)
    optimizer = torch.optim.RMSprop(q.parameters(), lr=config["lr"], alpha=0.95, eps=1e-2)
    run = nanwatch.init(project="corpus", name="bakery-dqn", config=config)
    run.watch(q=q)
    memory, recent = [], []
    for step in range(-100, config["steps"]):
        state = env.observe()
        eps = max(config["eps_end"], 1 - max(step, 0) / config["eps_steps"])
        with torch.no_grad():
            action = q(torch.from_numpy(state)).argmax(1).numpy()
        explore = rng.random(config["shops"]) < eps
        action = np.where(explore, rng.integers(0, 4, config["shops"]), action)
        reward, after, done = env.step(action)
        recent = [*recent[-99:], reward.mean()]
        memory.extend(zip(state, action, reward, after, done, strict=True))
        del memory[: -config["capacity"]]
        if step < 0:
            continue
        rows = [memory[i] for i in rng.integers(0, len(memory), config["batch_size"])]
        s, a, r, s2, d = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        with torch.no_grad():
            goal = r + config["gamma"] * (1 - d) * target(s2).amax(1)
        value = q(s).gather(1, a[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(value, goal)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q.parameters(), config["max_norm"])
        optimizer.step()
        if (step + 1) % config["target_every"] == 0:
            target.load_state_dict(q.state_dict())
        run.log(q=value.detach(), reward=float(np.mean(recent)))
    run.finish()
