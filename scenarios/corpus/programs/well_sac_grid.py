"""Discrete soft actor-critic on a grid with a trap and a far goal: rewards are zero nearly
everywhere, the temperature is tuned towards a share of the largest entropy."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "gamma": 0.95, "batch_size": 64, "tau": 0.05, "envs": 16, "updates": 600,
          "side": 5, "slip": 0.1}  # fmt: skip
MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Grid:
    """From a random cell to the corner: 1 there, -1 at the trap, both end the episode."""

    def __init__(self, copies: int, side: int, slip: float, draw: np.random.Generator) -> None:
        self.side, self.slip, self.draw = side, slip, draw
        self.place = draw.integers(0, side - 1, (copies, 2))

    def observe(self) -> np.ndarray:
        cells = np.eye(self.side, dtype=np.float32)
        return np.hstack([cells[self.place[:, 0]], cells[self.place[:, 1]]])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slips = self.draw.random(len(action)) < self.slip
        action = np.where(slips, self.draw.integers(0, 4, len(action)), action)
        self.place = np.clip(self.place + MOVES[action], 0, self.side - 1)
        goal = (self.place == self.side - 1).all(1)
        trap = (self.place == self.side // 2).all(1)
        return goal.astype(np.float32) - trap.astype(np.float32), (goal | trap).astype(np.float32)

    def reset(self, over: np.ndarray) -> None:
        fresh = self.draw.integers(0, self.side - 1, self.place.shape)
        self.place = np.where(over[:, None] > 0, fresh, self.place)


def mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 4))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    hidden = int(draw.choice([32, 48]))
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4), "hidden": hidden}
    env = Grid(config["envs"], config["side"], config["slip"], draw)
    policy, q1, q2 = (mlp(2 * config["side"], hidden) for _ in range(3))
    slow1, slow2 = copy.deepcopy(q1), copy.deepcopy(q2)
    log_alpha = torch.full((1,), -3.0, requires_grad=True)
    critics = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=config["lr"])
    actor = torch.optim.Adam([*policy.parameters(), log_alpha], lr=config["lr"])
    replay = Replay(5000, 2 * config["side"], 1, seed)
    run = nanwatch.init(project="corpus", name="sac-grid", config=config)
    earned = 0.0
    for update in range(-40, config["updates"]):
        observation = env.observe()
        with torch.no_grad():
            odds = policy(torch.from_numpy(observation)).softmax(1)
        action = torch.multinomial(odds, 1)[:, 0].numpy()
        reward, done = env.step(action)
        replay.add(observation, action.astype(np.float32), reward, env.observe(), done)
        env.reset(done)
        if update < 0:
            continue
        before, taken, paid, after, over = map(
            torch.from_numpy, replay.sample(config["batch_size"])
        )
        alpha = log_alpha.exp()
        with torch.no_grad():
            logs = policy(after).log_softmax(1)
            soft = torch.minimum(slow1(after), slow2(after)) - alpha * logs
            target = paid + config["gamma"] * (1 - over) * (logs.exp() * soft).sum(1, keepdim=True)
        rows = taken.long()
        q_loss = sum(F.mse_loss(q(before).gather(1, rows), target) for q in (q1, q2))
        critics.zero_grad()
        q_loss.backward()
        critics.step()
        logs = policy(before).log_softmax(1)
        with torch.no_grad():
            least = torch.minimum(q1(before), q2(before))
        entropy = -(logs.exp() * logs).sum(1).mean()
        loss = (logs.exp() * (alpha.detach() * logs - least)).sum(1).mean()
        loss = loss + (log_alpha * (entropy - 0.3 * np.log(4)).detach()).sum()
        actor.zero_grad()
        loss.backward()
        actor.step()
        with torch.no_grad():
            for slow, fast in ((slow1, q1), (slow2, q2)):
                for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                    old.lerp_(new, config["tau"])
        earned += float(reward.mean()) / 20
        run.log(alpha=float(alpha), q=least)
        if update % 20 == 19:
            run.log(reward=earned)
            earned = 0.0
    run.finish()
