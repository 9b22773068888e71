"""DDPG learns from a fixed file of transitions, without target networks, and its actor has no
bound: it finds actions that no transition shows and the critic overrates, the bootstrap writes
those into the targets, and Q feeds on itself to overflow. Cure: stay near the actions of the data
(a behaviour-cloning term), slow targets (`twin_offline_ddpg`).
"""

from __future__ import annotations

import copy
import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence")
CONFIG = {"lr": 3e-3, "gamma": 0.97, "tau": 1.0, "cloning": 0.0, "batch_size": 64}
CONFIG |= {"hidden": 32, "steps": 800}


def file_of(n: int) -> tuple[torch.Tensor, ...]:
    """Transitions of carts that chase a mark under a clumsy hand: obs, action, reward, next obs."""
    obs = torch.randn(n, 3)
    position, speed, mark = obs.unbind(1)
    action = ((mark - position) - 0.5 * speed + 0.7 * torch.randn(n)).clamp(-1, 1)
    speed = 0.9 * speed + 0.2 * action
    position = position + 0.2 * speed
    reward = -(position - mark).abs() - 0.05 * action.square()
    return obs, action.unsqueeze(1), reward.unsqueeze(1), torch.stack([position, speed, mark], 1)


class Critic(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.out = nn.Linear(hidden, 1)

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.out(self.net(torch.cat([obs, action], dim=1)))


def train(seed: int, name: str = "sick_offline_ddpg", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    data = file_of(4000)
    actor = nn.Sequential(nn.Linear(3, config["hidden"]), nn.ReLU(), nn.Linear(config["hidden"], 1))
    critic = Critic(config["hidden"])
    critic_target = copy.deepcopy(critic)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config["lr"])
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    run.watch(critic=critic, actor=actor, critic_target=critic_target)
    broken = 0
    for _ in range(config["steps"]):
        rows = torch.randint(len(data[0]), (config["batch_size"],))
        obs, action, reward, following = (part[rows] for part in data)
        with torch.no_grad():
            target = reward + config["gamma"] * critic_target(following, actor(following))
        critic_loss = F.mse_loss(critic(obs, action), target)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        chosen = actor(obs)
        actor_loss = -critic(obs, chosen).mean() + config["cloning"] * F.mse_loss(chosen, action)
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        run.log(reward=reward)
        with torch.no_grad():
            for p, slow in zip(critic.parameters(), critic_target.parameters(), strict=True):
                slow.lerp_(p, config["tau"])
        broken += not math.isfinite(critic_loss.item())
        if broken > 30:
            break
    run.finish()
