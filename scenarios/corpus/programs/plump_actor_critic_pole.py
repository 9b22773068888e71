"""`actor_critic.py` of the examples repository: one pole on a cart, an episode (120 steps at most)
a step, returns standardised within it, log-probabilities times advantage plus a smooth L1 loss of
the value, both summed over the episode, Adam at 0.01 (0.03 in the original), no clipping. The loss
of an episode is anything between minus dozens and hundreds; the length of episodes goes up, falls
back, and goes up. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 0.01, "gamma": 0.99, "episodes": 160, "hidden": 128, "limit": 120}


class Policy(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.affine1, self.dropout = nn.Linear(4, hidden), nn.Dropout(0.1)
        self.action_head, self.value_head = nn.Linear(hidden, 2), nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu(self.affine1(x))
        return F.softmax(self.action_head(x), dim=-1), self.value_head(x)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    env = CartPole(1, seed, limit=10**6, length=draw.uniform(0.45, 0.6))
    model = Policy(draw.choice([64, 128]))
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="pole-actor-critic", config=config)
    eps = 1e-8
    for _ in range(config["episodes"]):
        env._state, log_probs, values, rewards = env._fresh(1), [], [], []
        for _ in range(config["limit"]):
            probs, value = model(torch.from_numpy(env.observe()[0]))
            choice = Categorical(probs)
            action = choice.sample()
            _, done = env.step(action.numpy()[None])
            log_probs.append(choice.log_prob(action))
            values.append(value[0])
            rewards.append(1.0)
            if done[0]:
                break
        following, returns = 0.0, []
        for reward in reversed(rewards):
            following = reward + config["gamma"] * following
            returns.insert(0, following)
        goal = torch.tensor(returns)
        goal = (goal - goal.mean()) / (goal.std() + eps)
        value = torch.stack(values)
        policy_loss = (-torch.stack(log_probs) * (goal - value.detach())).sum()
        loss = policy_loss + F.smooth_l1_loss(value, goal, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=float(len(rewards)))
    run.finish()
