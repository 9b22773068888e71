"""PPO learns the lights of a crossroads (four phases). After a hyperparameter sweep by hand the
rate stands at 0.02 "to learn faster", with fifteen epochs a rollout, the clip at 0.4 and no entropy
bonus. Within a few rollouts the policy puts all its weight on one phase, entropy is gone, nothing
is explored any more, and the queue of the other roads stays. Cure: 3e-4, four epochs, an entropy
bonus.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse", seeds=3)
CONFIG = {"lr": 2e-2, "gamma": 0.97, "gae_lambda": 0.95, "num_envs": 8, "num_steps": 32}
CONFIG |= {
    "iterations": 16,
    "update_epochs": 15,
    "minibatches": 4,
    "clip_coef": 0.4,
    "vf_coef": 0.5,
}


class Crossroads:
    """Four queues; a green one sheds up to three cars, a change of phase costs a step."""

    def __init__(self, copies: int, rates: np.ndarray, seed: int) -> None:
        self.rng, self.rates = np.random.default_rng(seed), rates
        self.queues, self.phase = np.zeros((copies, 4)), np.zeros(copies, int)

    def observe(self) -> torch.Tensor:
        green = np.eye(4)[self.phase]
        return torch.tensor(np.concatenate([self.queues / 10, green], 1), dtype=torch.float32)

    def step(self, action: np.ndarray) -> torch.Tensor:
        same = action == self.phase
        self.phase = action
        self.queues += self.rng.poisson(self.rates, self.queues.shape)
        rows = np.arange(len(action))
        shed = np.where(same, 3, 1)
        self.queues[rows, action] = np.maximum(0, self.queues[rows, action] - shed)
        self.queues = np.minimum(self.queues, 20)
        return torch.tensor(-self.queues.sum(1) / 20, dtype=torch.float32)


class Agent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
                                    nn.Linear(64, 1))  # fmt: skip
        self.actor = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
                                   nn.Linear(64, 4))  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    rates = np.array([draw.uniform(0.1, 0.5) for _ in range(4)])
    envs = Crossroads(config["num_envs"], rates, seed)
    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=config["lr"], eps=1e-5)
    run = nanwatch.init(project="corpus", name="crossroads-ppo", config=config)
    for _ in range(config["iterations"]):
        obs, actions, logprobs, rewards, values = [], [], [], [], []
        with torch.no_grad():
            for _ in range(config["num_steps"]):
                seen = envs.observe()
                dist = Categorical(logits=agent.actor(seen))
                action = dist.sample()
                obs.append(seen)
                actions.append(action)
                logprobs.append(dist.log_prob(action))
                values.append(agent.critic(seen).flatten())
                rewards.append(envs.step(action.numpy()))
            nextvalue, last, advantages = agent.critic(envs.observe()).flatten(), 0.0, []
            for t in reversed(range(config["num_steps"])):
                delta = rewards[t] + config["gamma"] * nextvalue - values[t]
                last = delta + config["gamma"] * config["gae_lambda"] * last
                advantages.append(last)
                nextvalue = values[t]
            advantages = torch.stack(advantages[::-1])
            returns = advantages + torch.stack(values)
        b_obs, b_actions, b_logprobs, b_adv, b_returns = (
            t.flatten(0, 1)
            for t in (torch.stack(obs), torch.stack(actions), torch.stack(logprobs), advantages,
                      returns)
        )  # fmt: skip
        for _ in range(config["update_epochs"]):
            for mb in torch.randperm(len(b_obs)).chunk(config["minibatches"]):
                dist = Categorical(logits=agent.actor(b_obs[mb]))
                ratio = (dist.log_prob(b_actions[mb]) - b_logprobs[mb]).exp()
                adv = b_adv[mb]
                clipped = ratio.clamp(1 - config["clip_coef"], 1 + config["clip_coef"])
                pg_loss = torch.max(-adv * ratio, -adv * clipped).mean()
                v_loss = 0.5 * (agent.critic(b_obs[mb]).flatten() - b_returns[mb]).pow(2).mean()
                loss = pg_loss + config["vf_coef"] * v_loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log(entropy=dist.entropy().mean().detach())
        run.log(reward=torch.stack(rewards).mean())
    run.finish()
