"""Implicit Q-learning from a fixed set of clumsy demonstrations: an expectile value, a critic and
a policy by advantage-weighted regression. No environment is touched. Nothing is wrong."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Reach, Replay

ABOUT = About(family="rl-offline", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "gamma": 0.95, "batch_size": 96, "tau": 0.01, "expectile": 0.8, "beta": 3.0,
          "updates": 700}  # fmt: skip


def mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def demonstrations(seed: int, skill: float) -> Replay:
    """A hand-written controller with much noise."""
    draw = np.random.default_rng(seed)
    env, kept = Reach(50, seed), Replay(10_000, 4, 2, seed)
    while kept.count < 10_000:
        seen = env.observe()
        wanted = -skill * seen[:, :2] - 1.5 * skill * seen[:, 2:]
        action = np.clip(wanted + draw.normal(0, 0.5, wanted.shape), -1, 1)
        reward, done = env.step(action)
        kept.add(seen, action, reward, env.observe(), done)
    return kept


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    data = demonstrations(seed, skill=draw.uniform(0.5, 1.5))
    hidden = int(draw.choice([32, 48, 64]))
    critic, value, policy = mlp(6, 1, hidden), mlp(4, 1, hidden), mlp(4, 2, hidden)
    critic_target = copy.deepcopy(critic)
    critic_optimizer, value_optimizer, policy_optimizer = (
        torch.optim.Adam(net.parameters(), lr=config["lr"]) for net in (critic, value, policy)
    )
    run = nanwatch.init(project="corpus", name="iql-reach", config=config)
    run.watch(critic=critic, value=value, policy=policy)
    for update in range(config["updates"]):
        before, taken, paid, after, over = map(torch.from_numpy, data.sample(config["batch_size"]))
        pair = torch.cat([before, taken], dim=1)
        with torch.no_grad():
            q = critic_target(pair)
            target = paid + config["gamma"] * (1 - over) * value(after)
        gap = q - value(before)
        weight = torch.where(gap > 0, config["expectile"], 1 - config["expectile"])
        value_loss = (weight * gap.square()).mean()
        value_optimizer.zero_grad()
        value_loss.backward()
        value_optimizer.step()
        critic_loss = (critic(pair) - target).square().mean()
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        weight = (config["beta"] * gap.detach()).exp().clamp(max=100.0)
        policy_loss = (weight * (torch.tanh(policy(before)) - taken).square()).mean()
        policy_optimizer.zero_grad()
        policy_loss.backward()
        policy_optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(critic_target.parameters(), critic.parameters(), strict=True):
                slow.lerp_(fast, config["tau"])
        if update % 50 == 49:
            run.log(reward=evaluate(policy, seed + update))
    run.finish()


def evaluate(policy: nn.Module, seed: int) -> float:
    """Mean reward over one episode of 32 copies."""
    env, total = Reach(32, seed), 0.0
    for _ in range(20):
        with torch.no_grad():
            action = torch.tanh(policy(torch.from_numpy(env.observe()))).numpy()
        total += float(env.step(action)[0].mean()) / 20
    return total
