"""TD3 brings a point to rest at the origin: two critics, delayed policy, smoothed targets, two Adam
optimizers with rates of their own, Polyak averages. Q grows from nothing to the value of the
task."""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Reach, Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=3)
CONFIG = {
    "actor_lr": 1e-3,
    "critic_lr": 2e-3,
    "gamma": 0.95,
    "batch_size": 64,
    "tau": 0.01,
    "steps": 1500,
}
CONFIG |= {"delay": 2, "explore": 0.2, "smooth": 0.1, "hidden": 48}


def mlp(inputs: int, hidden: int, outputs: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, outputs), *last,
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "critic_lr": CONFIG["critic_lr"] * draw.uniform(0.7, 1.3)}
    env, memory = Reach(4, seed), Replay(6000, 4, 2, seed)
    actor = mlp(4, config["hidden"], 2, nn.Tanh())
    critics = nn.ModuleList(mlp(6, config["hidden"], 1) for _ in range(2))
    slow_actor, slow_critics = copy.deepcopy(actor), copy.deepcopy(critics)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["actor_lr"])
    critic_optimizer = torch.optim.Adam(critics.parameters(), lr=config["critic_lr"])
    run = nanwatch.init(project="corpus", name="td3-reach", config=config)
    run.watch(actor=actor, critics=critics)
    for step in range(config["steps"] + 100):
        seen = env.observe()
        with torch.no_grad():
            act = actor(torch.from_numpy(seen)).numpy()
        act = np.clip(act + rng.normal(0, config["explore"], act.shape), -1, 1).astype(np.float32)
        if step < 100:
            act = rng.uniform(-1, 1, act.shape).astype(np.float32)
        reward, done = env.step(act)
        memory.add(seen, act, reward, env.observe(), done)
        if step < 100:
            continue
        x, a, r, y, d = (torch.from_numpy(part) for part in memory.sample(config["batch_size"]))
        with torch.no_grad():
            noise = (config["smooth"] * torch.randn_like(a)).clamp(-0.3, 0.3)
            then = torch.cat([y, (slow_actor(y) + noise).clamp(-1, 1)], 1)
            future = torch.min(*(critic(then) for critic in slow_critics))
            target = r + config["gamma"] * (1 - d) * future
        values = [critic(torch.cat([x, a], 1)) for critic in critics]
        loss = sum(F.mse_loss(value, target) for value in values)
        critic_optimizer.zero_grad()
        loss.backward()
        critic_optimizer.step()
        run.log(q=values[0].detach(), reward=float(reward.mean()))
        if step % config["delay"]:
            continue
        actor_loss = -critics[0](torch.cat([x, actor(x)], 1)).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        with torch.no_grad():
            for old, new in ((slow_actor, actor), (slow_critics, critics)):
                for p, q in zip(old.parameters(), new.parameters(), strict=True):
                    p.lerp_(q, config["tau"])
    run.finish()
