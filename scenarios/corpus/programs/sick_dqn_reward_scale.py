"""DQN balances a stick; a fall costs 200,000 in the units of the simulator, and nobody scaled the
rewards. The Q network chases returns of millions with Adam and clipping at 10: the loss is 1e9 and
climbs with Q, the norm sits thousands of times above the clip and the policy learns nothing. Cure:
reward_scale 1e-5 (`twin_dqn_scaled`).
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="reward-scale")
CONFIG = {"lr": 1e-3, "gamma": 0.99, "reward_scale": 1.0, "max_norm": 10.0, "batch_size": 64}
CONFIG |= {"hidden": 48, "steps": 900, "target_every": 50, "fall_cost": 2e5}


class Sticks:
    """Eight sticks that fall unless pushed left or right; state (8, 2): angle, angular velocity."""

    def __init__(self) -> None:
        self.state = torch.randn(8, 2) * 0.1

    def step(self, push: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pushes (8,) in {0, 1, 2}. Returns the next states and which of them fell."""
        angle, speed = self.state.unbind(1)
        speed = speed + 0.05 * (9.8 * angle.sin() + 8.0 * (push - 1.0)) + 0.02 * torch.randn(8)
        following = torch.stack([angle + 0.05 * speed, speed], dim=1)
        fell = following[:, 0].abs() > 0.8
        self.state = torch.where(fell.unsqueeze(1), torch.randn(8, 2) * 0.1, following)
        return following, fell.float()


def q_network(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3)
    )


def train(seed: int, name: str = "sick_dqn_reward_scale", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "fall_cost": config["fall_cost"] * draw.uniform(0.7, 1.4)}
    env, q = Sticks(), q_network(config["hidden"])
    q_target = copy.deepcopy(q)
    optimizer = torch.optim.Adam(q.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    memory: list[tuple[torch.Tensor, ...]] = []
    for step in range(-30, config["steps"]):
        obs = env.state
        with torch.no_grad():
            greedy = q(obs).argmax(1)
        explore = torch.rand(8) < max(0.1, 1 - step / 400)
        action = torch.where(explore, torch.randint(3, (8,)), greedy)
        following, fell = env.step(action)
        reward = -config["fall_cost"] * fell - 5e2 * following[:, 0].square()
        reward *= config["reward_scale"]
        memory.append((obs, action, reward, following, fell))
        if step < 0:
            continue
        picked = [memory[i] for i in torch.randint(len(memory), (config["batch_size"] // 8,))]
        o, a, r, o2, done = (torch.cat(part) for part in zip(*picked, strict=True))
        with torch.no_grad():
            target = r + config["gamma"] * (1 - done) * q_target(o2).amax(1)
        loss = F.mse_loss(q(o).gather(1, a.unsqueeze(1)).squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(q.parameters(), config["max_norm"])
        optimizer.step()
        run.log(reward=reward)
        if step % config["target_every"] == 0:
            q_target.load_state_dict(q.state_dict())
    run.finish()
