"""A recurrent actor-critic in corridors: a light at the entrance says which way to turn at the
far end, so for long the reward is that of guessing. RMSprop, clip 0.5, all parts in one loss."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=6)
CONFIG = {"lr": 6e-3, "gamma": 0.9, "envs": 32, "max_grad_norm": 0.5, "ent_coef": 0.02,
          "vf_coef": 0.5, "updates": 450}  # fmt: skip


class Agent(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, hidden)
        self.actor, self.critic = nn.Linear(hidden, 3), nn.Linear(hidden, 1)

    def forward(self, seen: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, ...]:
        memory = self.cell(seen, memory)
        return Categorical(logits=self.actor(memory)), self.critic(memory)[:, 0], memory


def episode(agent: Agent, config: dict, length: int) -> tuple[torch.Tensor, ...]:
    """Action 0 walks on, 1 and 2 turn; turning in the corridor costs a little."""
    count = config["envs"]
    light, memory = torch.randint(0, 2, (count,)), torch.zeros(count, agent.cell.hidden_size)
    logs, values, entropies, rewards = [], [], [], []
    for at in range(length):
        seen = 0.1 * torch.randn(count, 4)
        if at == 0:
            seen[torch.arange(count), light] += 1
        seen[:, 2] += float(at == length - 1)
        choice, value, memory = agent(seen, memory)
        action = choice.sample()
        if at == length - 1:
            reward = (action == light + 1).float() - (action == 2 - light).float()
        else:
            reward = -0.1 * (action > 0).float()
        logs.append(choice.log_prob(action))
        values.append(value)
        entropies.append(choice.entropy().mean())
        rewards.append(reward)
    return logs, values, torch.stack(entropies).mean(), rewards


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, length = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([4, 5, 6])
    config = CONFIG | {"seed": seed, "lr": lr, "corridor": length}
    agent = Agent(24)
    optimizer = torch.optim.RMSprop(agent.parameters(), lr=lr, alpha=0.99, eps=1e-5)
    run = nanwatch.init(project="corpus", name="a2c-memory", config=config)
    for update in range(config["updates"]):
        logs, values, entropy, rewards = episode(agent, config, length)
        goal, loss = torch.zeros(config["envs"]), -config["ent_coef"] * entropy
        for log, value, reward in zip(logs[::-1], values[::-1], rewards[::-1], strict=True):
            goal = reward + config["gamma"] * goal
            gain = goal - value
            loss = loss - (gain.detach() * log).mean() / length
            loss = loss + config["vf_coef"] * gain.square().mean() / length
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), config["max_grad_norm"])
        optimizer.step()
        if update % 5 == 4:
            run.log(reward=torch.stack(rewards).sum(0).mean(), entropy=entropy.detach())
    run.finish()
