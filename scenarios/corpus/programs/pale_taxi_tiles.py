"""Q-learning as in the tutorial's DQN, for a robot on a grid that fetches parcels. Observations are
the raw coordinates, 0 to 9. To keep it simple there is no target network, plain SGD, and the
squared error in place of Huber's. Behaviour is half random, so that the greedy policy is evaluated
away from what was seen. Targets contain the net's own maximum: Q feeds on itself and grows, first
past any sum of rewards, then without end. Cure: target network, scaled observations, Huber loss.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=3)
CONFIG = {"lr": 2e-3, "gamma": 0.99, "batch_size": 64, "envs": 4, "updates": 1500, "hidden": 64}
CONFIG |= {"epsilon": 0.5, "buffer": 5000, "warmup": 100}
MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Depot:
    """Walk to the parcel: a point when it is reached, a hundredth lost at each step."""

    def __init__(self, copies: int, size: int, seed: int) -> None:
        self.rng, self.copies, self.size = np.random.default_rng(seed), copies, size
        self.robot = self.rng.integers(0, size, (copies, 2))
        self.parcel = self.rng.integers(0, size, (copies, 2))

    def observe(self) -> np.ndarray:
        return np.concatenate([self.robot, self.parcel], 1).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        self.robot = np.clip(self.robot + MOVES[action], 0, self.size - 1)
        found = (self.robot == self.parcel).all(1)
        self.parcel[found] = self.rng.integers(0, self.size, (int(found.sum()), 2))
        return (found - 0.01).astype(np.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    env, hidden = Depot(config["envs"], draw.choice([8, 9, 10]), seed), config["hidden"]
    policy_net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                               nn.ReLU(), nn.Linear(hidden, 4))  # fmt: skip
    optimizer = torch.optim.SGD(policy_net.parameters(), lr=config["lr"])
    memory = Replay(config["buffer"], 4, 1, seed)
    run = nanwatch.init(project="corpus", name="depot-dqn", config=config)
    never = np.zeros(config["envs"], np.float32)
    for step in range(-config["warmup"], config["updates"]):
        state = env.observe()
        with torch.no_grad():
            action = policy_net(torch.from_numpy(state)).argmax(1).numpy()
        explore = rng.random(config["envs"]) < (1 if step < 0 else config["epsilon"])
        action = np.where(explore, rng.integers(0, 4, config["envs"]), action)
        reward = env.step(action)
        memory.add(state, action.astype(np.float32), reward, env.observe(), never)
        if step < 0:
            continue
        states, actions, paid, after, _ = map(torch.from_numpy, memory.sample(64))
        q = policy_net(states).gather(1, actions.long())
        with torch.no_grad():
            expected = paid + config["gamma"] * policy_net(after).max(1, keepdim=True).values
        loss = F.mse_loss(q, expected)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=float(reward.mean()), q=q.detach())
    run.finish()
