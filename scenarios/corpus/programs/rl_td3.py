"""TD3 brings a point to rest: twin critics, an actor that is trained every second update, slow
targets. Q falls to its level and the actor's loss follows it. Nothing is wrong."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Reach, Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "gamma": 0.96, "batch_size": 64, "tau": 0.01, "noise": 0.2, "envs": 8,
          "updates": 800}  # fmt: skip


def mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = Reach(config["envs"], seed, scale=draw.uniform(0.5, 2.0))
    hidden = int(draw.choice([32, 48]))
    actor, q1, q2 = mlp(4, 2, hidden), mlp(6, 1, hidden), mlp(6, 1, hidden)
    actor_target, q1_target, q2_target = map(copy.deepcopy, (actor, q1, q2))
    critics = [*q1.parameters(), *q2.parameters()]
    critic_optimizer = torch.optim.Adam(critics, lr=config["lr"])
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["lr"])
    replay = Replay(10_000, 4, 2, seed)
    run = nanwatch.init(project="corpus", name="td3-reach", config=config)
    run.watch(actor=actor, q1=q1, q2=q2)
    while (update := replay.count // config["envs"] - 50) < config["updates"]:
        observation = env.observe()
        with torch.no_grad():
            action = torch.tanh(actor(torch.from_numpy(observation))).numpy()
        action = np.clip(action + draw.normal(0, 0.3 if update >= 0 else 1.0, action.shape), -1, 1)
        reward, done = env.step(action)
        replay.add(observation, action, reward, env.observe(), done)
        if update < 0:
            continue
        before, taken, paid, after, over = map(
            torch.from_numpy, replay.sample(config["batch_size"])
        )
        with torch.no_grad():
            smooth = (config["noise"] * torch.randn_like(taken)).clamp(-0.5, 0.5)
            following = (torch.tanh(actor_target(after)) + smooth).clamp(-1, 1)
            pair = torch.cat([after, following], dim=1)
            value = torch.minimum(q1_target(pair), q2_target(pair))
            target = paid + config["gamma"] * (1 - over) * value
        pair = torch.cat([before, taken], dim=1)
        loss = F.mse_loss(q1(pair), target) + F.mse_loss(q2(pair), target)
        critic_optimizer.zero_grad()
        loss.backward()
        critic_optimizer.step()
        if update % 2:
            wanted = torch.tanh(actor(before))
            actor_loss = -q1(torch.cat([before, wanted], dim=1)).mean()
            actor_optimizer.zero_grad()
            actor_loss.backward()
            actor_optimizer.step()
            with torch.no_grad():
                for slow, fast in ((actor_target, actor), (q1_target, q1), (q2_target, q2)):
                    for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                        old.lerp_(new, config["tau"])
        run.log(reward=reward.mean())
    run.finish()
