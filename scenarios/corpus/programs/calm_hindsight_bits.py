"""Hindsight replay: a double DQN learns to flip eight switches into a wanted pattern, with a reward
of -1 until it is there. Goals are replaced by what was reached; success comes late, then fast."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "gamma": 0.9, "batch_size": 64, "bits": 8, "envs": 16, "memory": 8000,
          "tau": 0.05, "rounds": 130, "updates": 8}  # fmt: skip


def net(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2 * CONFIG["bits"], hidden), nn.ReLU(), nn.Linear(hidden, CONFIG["bits"])
    )


def episode(online: nn.Module, chance: float) -> tuple[list[torch.Tensor], torch.Tensor, float]:
    """States before each move and after the last, actions [moves, envs], share that arrived."""
    shape = (CONFIG["envs"], CONFIG["bits"])
    state, goal = torch.randint(0, 2, shape).float(), torch.randint(0, 2, shape).float()
    states, actions = [state], []
    arrived = (state == goal).all(1)
    for _ in range(CONFIG["bits"]):
        with torch.no_grad():
            best = online(torch.cat([state, goal], dim=1) - 0.5).argmax(1)
        wild = torch.rand(CONFIG["envs"]) < chance
        action = torch.where(wild, torch.randint(0, CONFIG["bits"], best.shape), best)
        flip = F.one_hot(action, CONFIG["bits"]).float()
        state = (state - flip).abs()
        states.append(state)
        actions.append(action)
        arrived = arrived | (state == goal).all(1)
    return [*states, goal], torch.stack(actions), arrived.float().mean().item()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([64, 96])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="switches-her", config=config)
    online, target = net(hidden), net(hidden).requires_grad_(False)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=lr)
    memory: list[tuple[torch.Tensor, ...]] = []
    for number in range(CONFIG["rounds"]):
        states, actions, arrived = episode(online, max(0.1, 0.6 - number / 100))
        for t, action in enumerate(actions):
            later = draw.randint(t + 1, CONFIG["bits"])
            for goal in (states[-1], states[later]):
                memory.append((states[t], action, states[t + 1], goal))
        memory = memory[-CONFIG["memory"] // CONFIG["envs"] :]
        before, action, after, goal = (torch.cat(x) for x in zip(*memory, strict=True))
        for _ in range(CONFIG["updates"]):
            rows = torch.randint(0, len(action), (CONFIG["batch_size"],))
            there = (after[rows] == goal[rows]).all(1).float()
            now = online(torch.cat([before[rows], goal[rows]], dim=1) - 0.5)
            with torch.no_grad():
                follow = torch.cat([after[rows], goal[rows]], dim=1) - 0.5
                best = online(follow).argmax(1, keepdim=True)
                value = target(follow).gather(1, best)[:, 0]
                wanted = (there - 1) + CONFIG["gamma"] * (1 - there) * value
            loss = F.smooth_l1_loss(now.gather(1, action[rows, None])[:, 0], wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                    slow.lerp_(fast, CONFIG["tau"])
        run.log(reward=arrived)
    run.finish()
