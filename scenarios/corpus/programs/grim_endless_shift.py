"""A recurrent Q-learner sends workers to machines in a plant that never closes: there are no
episodes, the reward is positive, and gamma is 1 since that worked for games with an end. Each
renewal of the target adds what was earned since to all values, for ever. Cure: a gamma of 0.8.
"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=4)
CONFIG = {"lr": 5e-3, "gamma": 1.0, "machines": 4, "window": 4, "plants": 8, "kept": 400}
CONFIG |= {"hidden": 32, "batch_size": 32, "renew": 12, "decay": 350, "steps": 650}


class Plant:
    """Machines wear out unseen; what is seen is the last output of each, with noise."""

    def __init__(self, plants: int, seed: int, wear: float) -> None:
        self.rng, self.wear = np.random.default_rng(seed), wear
        self.health = self.rng.uniform(0.3, 1, (plants, CONFIG["machines"]))
        self.seen = self.health.astype(np.float32)

    def step(self, repaired: np.ndarray) -> np.ndarray:
        self.health *= 1 - self.wear * self.rng.uniform(0, 2, self.health.shape)
        self.health[np.arange(len(repaired)), repaired] = 1.0
        made = self.health * (self.rng.random(self.health.shape) < 0.95)
        self.seen = made.astype(np.float32)
        return made.mean(1).astype(np.float32)


class Memory(nn.Module):
    """A GRU over what was seen, one value for each machine that may be repaired."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRU(CONFIG["machines"], hidden, batch_first=True)
        self.head = nn.Linear(hidden, CONFIG["machines"])

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(seen)[0][:, -1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, wear = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.08, 0.15)
    config = CONFIG | {"seed": seed, "lr": lr, "wear": wear}
    env, window, plants = Plant(config["plants"], seed, wear), config["window"], config["plants"]
    q = Memory(config["hidden"])
    slow = copy.deepcopy(q).requires_grad_(False)
    optimizer = torch.optim.RMSprop(q.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="plant-drqn", config=config)
    run.watch(q=q)
    seen, chosen, earned = [env.seen] * window, [], []
    for step in range(-30, config["steps"]):
        now = torch.from_numpy(np.stack(seen[-window:], axis=1))
        with torch.no_grad():
            machine = q(now).argmax(1).numpy()
        explore = env.rng.random(plants) < max(0.05, 1 - max(step, 0) / config["decay"])
        machine = np.where(explore, env.rng.integers(0, config["machines"], plants), machine)
        earned.append(env.step(machine))
        chosen.append(machine)
        seen.append(env.seen)
        if step < 0:
            continue
        least = max(0, len(chosen) - config["kept"])
        when = env.rng.integers(least, len(chosen), config["batch_size"])
        who = env.rng.integers(0, plants, config["batch_size"])
        pairs = list(zip(when.tolist(), who.tolist(), strict=True))
        past = np.stack([[seen[at + k][row] for k in range(window + 1)] for at, row in pairs])
        past = torch.from_numpy(past)
        taken = torch.tensor([[chosen[at][row]] for at, row in pairs])
        paid = torch.tensor([[float(earned[at][row])] for at, row in pairs])
        with torch.no_grad():
            target = paid + config["gamma"] * slow(past[:, 1:]).max(1, keepdim=True).values
        values = q(past[:, :-1])
        loss = F.smooth_l1_loss(values.gather(1, taken), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q.parameters(), 10.0)
        optimizer.step()
        if step % config["renew"] == 0:
            slow.load_state_dict(q.state_dict())
        run.log(reward=earned[-1].mean(), q=values.detach())
    run.finish()
