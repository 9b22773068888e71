"""REINFORCE with a running baseline on cart poles: noisy gradients, a loss around zero, rewards
that rise in leaps. Nothing is wrong."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole

ABOUT = About(family="rl-on-policy", sick=False, seeds=7)
CONFIG = {"lr": 5e-3, "gamma": 0.98, "envs": 12, "horizon": 24, "hidden": 32, "updates": 450}


def returns_of(rewards: torch.Tensor, done: torch.Tensor, gamma: float) -> torch.Tensor:
    found, following = [], torch.zeros(rewards.shape[1])
    for reward, over in zip(rewards.flip(0), done.flip(0), strict=True):
        following = reward + gamma * following * (1 - over)
        found.append(following)
    return torch.stack(found[::-1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = CartPole(config["envs"], seed, length=draw.uniform(0.4, 0.7))
    policy = nn.Sequential(
        nn.Linear(4, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 2)
    )
    optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="reinforce-cartpole", config=config)
    for _ in range(config["updates"]):
        seen, taken, rewards, ends = [], [], [], []
        for _ in range(config["horizon"]):
            observation = torch.from_numpy(env.observe())
            with torch.no_grad():
                action = torch.bernoulli(policy(observation).softmax(1)[:, 1])
            reward, done = env.step(action.numpy())
            seen.append(observation)
            taken.append(action)
            rewards.append(torch.from_numpy(reward))
            ends.append(torch.from_numpy(done))
        returns = returns_of(torch.stack(rewards), torch.stack(ends), config["gamma"])
        advantage = (returns - returns.mean()) / (returns.std() + 1e-6)
        choice = Categorical(logits=policy(torch.stack(seen)))
        loss = -(choice.log_prob(torch.stack(taken)) * advantage).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        length = float(np.mean(env.lengths[-20:])) if env.lengths else 0.0
        run.log(reward=length, entropy=choice.entropy().mean())
    run.finish()
