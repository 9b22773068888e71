"""TD3 in one file, after CleanRL: a drone in the plane flies to a place against wind. Twin critics,
target networks with tau 0.005, noise on the target's actions, the policy every second step, Adam at
1e-3, batches of 128, gamma 0.95, rewards of -2 to 0 as they are. Q goes down to the value of a
clumsy policy and comes up as that gets better; critic losses jump when new places are seen.
Nothing is wrong."""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "gamma": 0.95, "tau": 0.01, "batch_size": 128, "envs": 4, "steps": 1400}
CONFIG |= {"policy_noise": 0.2, "noise_clip": 0.5, "exploration": 0.1, "delay": 2, "start": 100}


class Drone:
    """Place and speed in the plane; two thrusts; wind that is the same for a whole flight."""

    def __init__(self, copies: int, wind: float, seed: int) -> None:
        self.rng, self.copies, self.wind = np.random.default_rng(seed), copies, wind
        self.age = self.rng.integers(0, 50, copies)
        self.place, self.speed, self.gust = np.zeros((3, copies, 2))
        self._launch(np.ones(copies, bool))

    def _launch(self, which: np.ndarray) -> None:
        count = int(which.sum())
        self.place[which] = self.rng.uniform(-1, 1, (count, 2))
        self.speed[which] = 0
        self.gust[which] = self.rng.normal(0, self.wind, (count, 2))

    def observe(self) -> np.ndarray:
        return np.concatenate([self.place, 3 * self.speed, 10 * self.gust], 1).astype(np.float32)

    def step(self, thrust: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.speed = 0.9 * self.speed + 0.06 * np.clip(thrust, -1, 1) + self.gust
        self.place = np.clip(self.place + self.speed, -2, 2)
        reward = -np.linalg.norm(self.place, axis=1) - 0.05 * np.square(thrust).sum(1)
        later = self.observe()
        self.age += 1
        over = self.age >= 50
        self._launch(over)
        self.age[over] = 0
        return reward.astype(np.float32), later


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                         nn.ReLU(), nn.Linear(hidden, outputs))  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env, hidden = Drone(config["envs"], draw.uniform(0.005, 0.015), seed), draw.choice([48, 64])
    actor = nn.Sequential(mlp(6, hidden, 2), nn.Tanh())
    qf1, qf2 = mlp(8, hidden, 1), mlp(8, hidden, 1)
    actor_target, qf1_target, qf2_target = map(copy.deepcopy, (actor, qf1, qf2))
    q_optimizer = torch.optim.Adam([*qf1.parameters(), *qf2.parameters()], lr=config["lr"])
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["lr"])
    replay = Replay(20000, 6, 2, seed)
    run = nanwatch.init(project="corpus", name="drone-td3", config=config)
    never = np.zeros(config["envs"], np.float32)
    for step in range(-config["start"], config["steps"]):
        seen = env.observe()
        if step < 0:
            action = rng.uniform(-1, 1, (config["envs"], 2))
        else:
            with torch.no_grad():
                action = actor(torch.from_numpy(seen)).numpy()
            action = np.clip(action + rng.normal(0, config["exploration"], action.shape), -1, 1)
        action = action.astype(np.float32)
        reward, after = env.step(action)
        replay.add(seen, action, reward, after, never)
        if step < 0:
            continue
        states, actions, rewards, later, _ = map(torch.from_numpy, replay.sample(128))
        with torch.no_grad():
            noise = config["policy_noise"] * torch.randn_like(actions)
            noise = noise.clamp(-config["noise_clip"], config["noise_clip"])
            both = torch.cat([later, (actor_target(later) + noise).clamp(-1, 1)], 1)
            goal = rewards + config["gamma"] * torch.minimum(qf1_target(both), qf2_target(both))
        both = torch.cat([states, actions], 1)
        q1, q2 = qf1(both), qf2(both)
        loss = F.mse_loss(q1, goal) + F.mse_loss(q2, goal)
        q_optimizer.zero_grad()
        loss.backward()
        q_optimizer.step()
        if step % config["delay"] == 0:
            actor_loss = -qf1(torch.cat([states, actor(states)], 1)).mean()
            actor_optimizer.zero_grad()
            actor_loss.backward()
            actor_optimizer.step()
            for target, net in ((actor_target, actor), (qf1_target, qf1), (qf2_target, qf2)):
                for old, new in zip(target.parameters(), net.parameters(), strict=False):
                    old.data.lerp_(new.data, config["tau"])
        run.log(reward=float(reward.mean()), q=q1.detach())
    run.finish()
