"""Double DQN with rewards in the tens on a point that has to be brought to rest, by nine forces: Q
falls to hundreds below zero in good order, the squared error stands in the hundreds. Gradient
clipping at 10 binds for the whole run. Nothing is wrong."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Reach, Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "gamma": 0.95, "batch_size": 64, "tau": 0.02, "max_grad_norm": 10.0,
          "envs": 8, "updates": 1200}  # fmt: skip
FORCES = np.array(list(itertools.product([-1.0, 0.0, 1.0], repeat=2)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    scale = draw.uniform(5.0, 20.0)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4), "scale": scale}
    env = Reach(config["envs"], seed, scale=scale)
    q_net = nn.Sequential(
        nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, len(FORCES))
    )
    q_target = copy.deepcopy(q_net)
    optimizer = torch.optim.AdamW(q_net.parameters(), lr=config["lr"], weight_decay=1e-4)
    replay = Replay(10_000, 4, 1, seed)
    run = nanwatch.init(project="corpus", name="double-dqn-reach", config=config)
    while (update := replay.count // config["envs"] - 50) < config["updates"]:
        observation = env.observe()
        with torch.no_grad():
            best = q_net(torch.from_numpy(observation)).argmax(1).numpy()
        random = draw.random(config["envs"]) < max(0.08, 1 - update / 400)
        action = np.where(random, draw.integers(0, len(FORCES), config["envs"]), best)
        reward, done = env.step(FORCES[action])
        replay.add(observation, action, reward, env.observe(), done)
        if update < 0:
            continue
        before, taken, paid, after, over = map(
            torch.from_numpy, replay.sample(config["batch_size"])
        )
        with torch.no_grad():
            chosen = q_net(after).argmax(1, keepdim=True)
            following = q_target(after).gather(1, chosen)
            target = paid + config["gamma"] * (1 - over) * following
        loss = (q_net(before).gather(1, taken.long()) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q_net.parameters(), config["max_grad_norm"])
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(q_target.parameters(), q_net.parameters(), strict=True):
                slow.lerp_(fast, config["tau"])
        run.log(reward=reward.mean())
    run.finish()
