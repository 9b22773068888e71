"""Soft actor critic in the manner of CleanRL: a glider looks for rising air and holds height. Twin
critics with targets (tau 0.01), tanh-squashed Gaussian, entropy temperature learnt towards minus
the number of actions, random actions at the start, the policy every second update. Nothing is
wrong."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=3)
CONFIG = {"policy_lr": 1e-3, "q_lr": 2e-3, "gamma": 0.95, "tau": 0.01, "batch_size": 64}
CONFIG |= {"learning_starts": 40, "updates": 700, "policy_frequency": 2, "num_envs": 8}


class Glider:
    """Place along a ridge, speed, distance to the nearest lift; two actions: lean and spoilers."""

    def __init__(self, copies: int, gust: float, seed: int) -> None:
        self.rng, self.gust, self.copies = np.random.default_rng(seed), gust, copies
        self.x, self.v = self.rng.uniform(-1, 1, copies), np.zeros(copies)
        self.lift = self.rng.uniform(-0.7, 0.7, copies)
        self.age = self.rng.integers(0, 50, copies)

    def observe(self) -> np.ndarray:
        return np.stack([self.x, self.v * 3, self.lift - self.x], 1).astype(np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lean, spoil = np.clip(action, -1, 1).T
        drag = 0.15 + 0.2 * (spoil + 1) / 2
        self.v = (1 - drag) * self.v + 0.08 * lean + self.gust * self.rng.normal(size=self.copies)
        self.x = np.clip(self.x + self.v, -1.5, 1.5)
        height = np.exp(-8 * (self.x - self.lift) ** 2) - 0.1 * (spoil + 1)
        reward = height - 0.05 * lean**2
        self.age += 1
        old = self.age >= 50
        self.x[old], self.v[old] = self.rng.uniform(-1, 1, old.sum()), 0
        self.lift[old], self.age[old] = self.rng.uniform(-0.7, 0.7, old.sum()), 0
        return reward.astype(np.float32), np.zeros(self.copies, np.float32)


class SoftQNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(5, 64), nn.Linear(64, 64), nn.Linear(64, 1)

    def forward(self, x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.fc1(torch.cat([x, a], 1)))
        return self.fc3(F.relu(self.fc2(x)))


class Actor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 64), nn.Linear(64, 64)
        self.fc_mean, self.fc_logstd = nn.Linear(64, 2), nn.Linear(64, 2)

    def get_action(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu(self.fc2(F.relu(self.fc1(x))))
        mean, log_std = self.fc_mean(x), torch.tanh(self.fc_logstd(x))
        log_std = -5 + 0.5 * (2 + 5) * (log_std + 1)
        normal = torch.distributions.Normal(mean, log_std.exp())
        x_t = normal.rsample()
        y_t = torch.tanh(x_t)
        log_prob = normal.log_prob(x_t) - torch.log(1 - y_t.pow(2) + 1e-6)
        return y_t, log_prob.sum(1, keepdim=True)


def train(seed: int) -> None:  # noqa: PLR0915 - one long loop, as CleanRL writes them
    torch.manual_seed(seed)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "q_lr": CONFIG["q_lr"] * draw.uniform(0.6, 1.3)}
    envs = Glider(config["num_envs"], draw.uniform(0.005, 0.02), seed)
    actor, qf1, qf2 = Actor(), SoftQNetwork(), SoftQNetwork()
    qf1_target, qf2_target = SoftQNetwork(), SoftQNetwork()
    qf1_target.load_state_dict(qf1.state_dict())
    qf2_target.load_state_dict(qf2.state_dict())
    q_optimizer = torch.optim.Adam([*qf1.parameters(), *qf2.parameters()], lr=config["q_lr"])
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["policy_lr"])
    log_alpha = torch.zeros(1, requires_grad=True)
    a_optimizer = torch.optim.Adam([log_alpha], lr=config["q_lr"])
    rb = Replay(10000, 3, 2, seed)
    run = nanwatch.init(project="corpus", name="glider-sac", config=config)
    for global_step in range(config["learning_starts"] + config["updates"]):
        obs = envs.observe()
        if global_step < config["learning_starts"]:
            actions = rng.uniform(-1, 1, (config["num_envs"], 2)).astype(np.float32)
        else:
            with torch.no_grad():
                actions = actor.get_action(torch.from_numpy(obs))[0].numpy()
        rewards, dones = envs.step(actions)
        rb.add(obs, actions, rewards, envs.observe(), dones)
        run.log(reward=float(rewards.mean()))
        if global_step < config["learning_starts"]:
            continue
        s, a, r, s2, d = map(torch.from_numpy, rb.sample(config["batch_size"]))
        alpha = log_alpha.exp().item()
        with torch.no_grad():
            a2, logp2 = actor.get_action(s2)
            q_next = torch.min(qf1_target(s2, a2), qf2_target(s2, a2)) - alpha * logp2
            target = r + (1 - d) * config["gamma"] * q_next
        q1, q2 = qf1(s, a), qf2(s, a)
        qf_loss = F.mse_loss(q1, target) + F.mse_loss(q2, target)
        q_optimizer.zero_grad()
        qf_loss.backward()
        q_optimizer.step()
        run.log(q=q1.detach())
        if global_step % config["policy_frequency"] == 0:
            for _ in range(config["policy_frequency"]):
                pi, log_pi = actor.get_action(s)
                actor_loss = (alpha * log_pi - torch.min(qf1(s, pi), qf2(s, pi))).mean()
                actor_optimizer.zero_grad()
                actor_loss.backward()
                actor_optimizer.step()
                with torch.no_grad():
                    _, log_pi = actor.get_action(s)
                alpha_loss = (-log_alpha.exp() * (log_pi - 2.0)).mean()
                a_optimizer.zero_grad()
                alpha_loss.backward()
                a_optimizer.step()
                alpha = log_alpha.exp().item()
        with torch.no_grad():
            for net, goal in ((qf1, qf1_target), (qf2, qf2_target)):
                for p, t in zip(net.parameters(), goal.parameters(), strict=True):
                    t.lerp_(p, config["tau"])
    run.finish()
