"""DQN on cart poles: Huber loss, a target network copied every 100 updates, so that loss and
gradient jump at each copy while the Q-values climb and level off. Nothing is wrong."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole, Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=7)
CONFIG = {"lr": 1e-3, "gamma": 0.97, "batch_size": 64, "target_every": 100, "buffer_size": 8000,
          "envs": 8, "updates": 1300}  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = CartPole(config["envs"], seed)
    hidden = int(draw.choice([32, 48, 64]))
    q_net = nn.Sequential(
        nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)
    )
    q_target = copy.deepcopy(q_net)
    optimizer = torch.optim.Adam(q_net.parameters(), lr=config["lr"])
    replay = Replay(config["buffer_size"], 4, 1, seed)
    run = nanwatch.init(project="corpus", name="dqn-cartpole", config=config)
    while (update := replay.count // config["envs"] - 60) < config["updates"]:
        observation = env.observe()
        with torch.no_grad():
            best = q_net(torch.from_numpy(observation)).argmax(1).numpy()
        random = draw.random(config["envs"]) < max(0.05, 1 - update / 500)
        action = np.where(random, draw.integers(0, 2, config["envs"]), best)
        reward, done = env.step(action)
        replay.add(observation, action, reward, env.observe(), done)
        if update < 0:
            continue
        before, taken, paid, after, over = map(
            torch.from_numpy, replay.sample(config["batch_size"])
        )
        with torch.no_grad():
            following = q_target(after).max(1, keepdim=True).values
            target = paid + config["gamma"] * (1 - over) * following
        q = q_net(before).gather(1, taken.long())
        loss = F.smooth_l1_loss(q, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % config["target_every"] == 0:
            q_target.load_state_dict(q_net.state_dict())
        run.log(reward=reward.mean())
    run.finish()
