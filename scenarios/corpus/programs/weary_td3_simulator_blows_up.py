"""TD3 pushes a block against spring-loaded walls in a home-made simulator with explicit Euler
steps. While the actor is timid all is well; once it has learnt to push hard the stiff contact
becomes unstable, for a few steps places and speeds are astronomical before the reset, and these
transitions stay in the replay buffer. Cure: drop them (or clip observations), a smaller step of the
simulator."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="replay-corruption", seeds=3)
CONFIG = {"lr": 1e-3, "gamma": 0.97, "batch_size": 64, "tau": 0.01, "policy_delay": 2}
CONFIG |= {"stiffness": 260.0, "dt": 0.05, "steps": 1600, "envs": 4, "start": 60}


class Pusher:
    """A block between walls at -1 and 1; reward: the force on the right one, up to a limit."""

    def __init__(self, envs, config, rng):
        self.config, self.rng, self.envs = config, rng, envs
        self.x, self.v, self.age = rng.uniform(-1, 0, envs), np.zeros(envs), np.zeros(envs)

    def observe(self):
        return np.stack([self.x, self.v], 1).astype(np.float32)

    def step(self, push):
        dt = self.config["dt"]
        depth = self.x - np.clip(self.x, -1, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            force = self.config["stiffness"] * (depth + 40 * depth**3)
            self.v = self.v + dt * (10 * push - force - 0.5 * self.v)
            self.x = self.x + dt * self.v
        reward = np.clip(force, 0, 8.0) / 8 - 0.02 * push**2 - 0.05 * np.abs(self.x - 1)
        state = self.observe()
        self.age += 1
        lost = ~np.isfinite(state).all(1)
        state[lost] = 0.0
        over = lost | (self.age > 60)
        n = int(over.sum())
        self.x[over], self.v[over], self.age[over] = self.rng.uniform(-1, 0, n), 0.0, 0
        reward = np.where(lost, -1.0, reward)
        return reward.astype(np.float32), state, lost.astype(np.float32)


def mlp(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(),
                         nn.Linear(48, outputs))  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "stiffness": CONFIG["stiffness"] * rng.uniform(0.95, 1.1)}
    env = Pusher(config["envs"], config, rng)
    actor, q1, q2 = mlp(2, 1), mlp(3, 1), mlp(3, 1)
    actor_t, q1_t, q2_t = map(copy.deepcopy, (actor, q1, q2))
    q_optimizer = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=config["lr"])
    pi_optimizer = torch.optim.Adam(actor.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="pusher-td3", config=config)
    run.watch(actor=actor, q1=q1, q2=q2)
    buffer = []
    for step in range(-config["start"], config["steps"]):
        state = env.observe()
        with torch.no_grad():
            action = torch.tanh(actor(torch.from_numpy(state))).numpy()
        action = np.clip(action + rng.normal(0, 0.2, action.shape), -1, 1).astype(np.float32)
        reward, after, done = env.step(action[:, 0])
        buffer.extend(zip(state, action, reward, after, done, strict=True))
        if step < 0:
            continue
        rows = [buffer[i] for i in rng.integers(0, len(buffer), config["batch_size"])]
        s, a, r, s2, d = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        with torch.no_grad():
            a2 = torch.tanh(actor_t(s2)) + (0.2 * torch.randn_like(a)).clamp(-0.5, 0.5)
            pair = torch.cat([s2, a2.clamp(-1, 1)], 1)
            value = torch.min(q1_t(pair), q2_t(pair)).squeeze(1)
            target = (r + config["gamma"] * (1 - d) * value).unsqueeze(1)
        pair = torch.cat([s, a], 1)
        q_loss = F.mse_loss(q1(pair), target) + F.mse_loss(q2(pair), target)
        q_optimizer.zero_grad()
        q_loss.backward()
        q_optimizer.step()
        if step % config["policy_delay"] == 0:
            pi_loss = -q1(torch.cat([s, torch.tanh(actor(s))], 1)).mean()
            pi_optimizer.zero_grad()
            pi_loss.backward()
            pi_optimizer.step()
            with torch.no_grad():
                for slow, fast in ((actor_t, actor), (q1_t, q1), (q2_t, q2)):
                    for p, new in zip(slow.parameters(), fast.parameters(), strict=True):
                        p.lerp_(new, config["tau"])
        run.log(reward=float(reward.mean()))
    run.finish()
