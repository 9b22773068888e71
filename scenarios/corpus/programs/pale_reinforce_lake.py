"""REINFORCE crosses a frozen lake of 6 by 6 with holes, slippery at times. It was too slow with the
example's 0.01 of SGD, so it is Adam at 0.02 now, with returns as they come, positive nearly always
for a step counts 1 while one is not drowned; no baseline, no bonus for entropy. Whatever was done
in the first long games is made certain: the policy stands at a rim, pushing against it, for ever.
Cure: normalised returns, entropy bonus, a smaller rate.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse", seeds=3)
CONFIG = {"lr": 0.02, "gamma": 0.98, "envs": 8, "horizon": 30, "updates": 180, "hidden": 32}
CONFIG |= {"entropy_coef": 0.0}
MOVES = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])


class Lake:
    """Start in one corner, 20 points in the other; 1 for each step on ice, games end in holes."""

    def __init__(self, copies: int, seed: int, slip: float) -> None:
        self.rng, self.copies, self.slip = np.random.default_rng(seed), copies, slip
        self.holes = self.rng.random((6, 6)) < 0.15
        self.holes[:2, :2] = self.holes[4:, 4:] = False
        self.place = np.zeros((copies, 2), int)

    def reset(self) -> None:
        self.place[:] = 0

    def observe(self) -> torch.Tensor:
        return torch.from_numpy((np.eye(6)[self.place].reshape(-1, 12)).astype(np.float32))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slips = self.rng.random(self.copies) < self.slip
        action = np.where(slips, self.rng.integers(0, 4, self.copies), action)
        self.place = np.clip(self.place + MOVES[action], 0, 5)
        drowned = self.holes[self.place[:, 0], self.place[:, 1]]
        home = (self.place == 5).all(1)
        return (1.0 + 20 * home - drowned).astype(np.float32), drowned | home


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.5)}
    env = Lake(config["envs"], seed, draw.uniform(0.05, 0.2))
    policy = nn.Sequential(nn.Linear(12, config["hidden"]), nn.ReLU(),
                           nn.Linear(config["hidden"], 4))  # fmt: skip
    optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="lake-reinforce", config=config)
    for _ in range(config["updates"]):
        env.reset()
        alive = np.ones(config["envs"], np.float32)
        log_probs, rewards, masks, entropies = [], [], [], []
        for _ in range(config["horizon"]):
            choice = Categorical(logits=policy(env.observe()))
            action = choice.sample()
            reward, over = env.step(action.numpy())
            log_probs.append(choice.log_prob(action))
            entropies.append(choice.entropy())
            rewards.append(reward * alive)
            masks.append(torch.from_numpy(alive.copy()))
            alive = alive * (1 - over)
        following, returns = np.zeros(config["envs"], np.float32), []
        for reward in reversed(rewards):
            following = reward + config["gamma"] * following
            returns.append(torch.from_numpy(following.copy()))
        gain, mask = torch.stack(returns[::-1]), torch.stack(masks)
        loss = -(torch.stack(log_probs) * gain * mask).sum(0).mean()
        entropy = (torch.stack(entropies) * mask).sum() / mask.sum()
        loss = loss - config["entropy_coef"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=float(np.sum(rewards, 0).mean()), entropy=entropy.detach())
    run.finish()
