"""Soft actor-critic keeps a greenhouse warm at little cost. The temperature alpha is learnt for an
entropy of minus one; it falls by orders of magnitude as the policy becomes sure. Three optimizers,
soft targets, log-probabilities in the softplus form. Nothing is wrong."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "alpha_lr": 3e-3, "gamma": 0.93, "tau": 0.02, "batch_size": 64, "houses": 8}
CONFIG |= {"updates": 900, "start": 60, "target_entropy": -1.0}


class Greenhouse:
    """Temperature above the wish, outside, hour; an action in [-1, 1] is the heating."""

    def __init__(self, n, rng):
        self.n, self.rng = n, rng
        self.warm, self.outside = rng.normal(0, 1, n), rng.normal(0, 1, n)
        self.hour = rng.uniform(0, 24, n)

    def observe(self):
        angle = self.hour * math.pi / 12
        parts = [self.warm, self.outside, np.sin(angle), np.cos(angle)]
        return np.stack(parts, 1).astype(np.float32)

    def step(self, heat):
        power = heat + 1
        self.warm = 0.85 * self.warm + 0.15 * (self.outside - 1.5) + 0.35 * power
        self.outside = 0.9 * self.outside + 0.2 * np.sin(self.hour * math.pi / 12)
        self.outside = self.outside + self.rng.normal(0, 0.15, self.n)
        self.hour = (self.hour + 1) % 24
        return (-np.abs(self.warm) - 0.1 * power).astype(np.float32)


def mlp(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(),
                         nn.Linear(48, outputs))  # fmt: skip


def act(actor, obs):
    mean, log_std = actor(obs).chunk(2, 1)
    dist = Normal(mean, log_std.clamp(-5, 2).exp())
    raw = dist.rsample()
    log_prob = dist.log_prob(raw) - 2 * (math.log(2) - raw - F.softplus(-2 * raw))
    return torch.tanh(raw), log_prob.sum(1, keepdim=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed}
    env = Greenhouse(config["houses"], rng)
    actor, q1, q2 = mlp(4, 2), mlp(5, 1), mlp(5, 1)
    q1_t, q2_t = copy.deepcopy(q1), copy.deepcopy(q2)
    log_alpha = nn.Parameter(torch.zeros(1))
    q_opt = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=config["lr"])
    pi_opt = torch.optim.Adam(actor.parameters(), lr=config["lr"])
    alpha_opt = torch.optim.Adam([log_alpha], lr=config["alpha_lr"])
    run = nanwatch.init(project="corpus", name="greenhouse-sac", config=config)
    run.watch(actor=actor, q1=q1, q2=q2)
    memory = []
    for step in range(-config["start"], config["updates"]):
        obs = env.observe()
        with torch.no_grad():
            action = act(actor, torch.from_numpy(obs))[0].numpy()
        reward = env.step(action[:, 0])
        memory.extend(zip(obs, action, reward, env.observe(), strict=True))
        if step < 0:
            continue
        rows = [memory[i] for i in rng.integers(0, len(memory), config["batch_size"])]
        s, a, r, s2 = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        alpha = log_alpha.exp().detach()
        with torch.no_grad():
            a2, lp2 = act(actor, s2)
            pair = torch.cat([s2, a2], 1)
            value = torch.min(q1_t(pair), q2_t(pair)) - alpha * lp2
            goal = r[:, None] + config["gamma"] * value
        pair = torch.cat([s, a], 1)
        q_loss = F.mse_loss(q1(pair), goal) + F.mse_loss(q2(pair), goal)
        q_opt.zero_grad()
        q_loss.backward()
        q_opt.step()
        new, lp = act(actor, s)
        pair = torch.cat([s, new], 1)
        pi_loss = (alpha * lp - torch.min(q1(pair), q2(pair))).mean()
        pi_opt.zero_grad()
        pi_loss.backward()
        pi_opt.step()
        alpha_loss = -(log_alpha * (lp.detach() + config["target_entropy"])).mean()
        alpha_opt.zero_grad()
        alpha_loss.backward()
        alpha_opt.step()
        with torch.no_grad():
            for slow, fast in ((q1_t, q1), (q2_t, q2)):
                for p, now in zip(slow.parameters(), fast.parameters(), strict=True):
                    p.lerp_(now, config["tau"])
        run.log(reward=float(reward.mean()), alpha=float(alpha))
    run.finish()
