"""Advantage actor-critic with n-step returns on cart poles: RMSprop, one loss of three parts, clip
0.5 that binds most of the time. Nothing is wrong."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole

ABOUT = About(family="rl-on-policy", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "gamma": 0.97, "n_steps": 8, "envs": 16, "max_grad_norm": 0.5,
          "ent_coef": 0.01, "vf_coef": 0.5, "updates": 700}  # fmt: skip


class ActorCritic(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden))
        self.actor, self.critic = nn.Linear(hidden, 2), nn.Linear(hidden, 1)

    def forward(self, observation: torch.Tensor) -> tuple[Categorical, torch.Tensor]:
        hidden = torch.tanh(self.trunk(observation))
        return Categorical(logits=self.actor(hidden), validate_args=False), self.critic(
            hidden
        ).squeeze(-1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = CartPole(config["envs"], seed)
    model = ActorCritic(int(draw.choice([24, 32, 48])))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=config["lr"], alpha=0.99, eps=1e-5)
    run = nanwatch.init(project="corpus", name="a2c-cartpole", config=config)
    for _ in range(config["updates"]):
        seen, taken, rewards, ends = [], [], [], []
        with torch.no_grad():
            for _ in range(config["n_steps"]):
                observation = torch.from_numpy(env.observe())
                action = torch.bernoulli(model(observation)[0].probs[:, 1])
                reward, done = env.step(action.numpy())
                seen.append(observation)
                taken.append(action)
                rewards.append(torch.from_numpy(reward))
                ends.append(torch.from_numpy(done))
            following = model(torch.from_numpy(env.observe()))[1]
            targets = []
            for reward, over in zip(rewards[::-1], ends[::-1], strict=True):
                following = reward + config["gamma"] * (1 - over) * following
                targets.append(following)
        target = torch.cat(targets[::-1])
        choice, value = model(torch.cat(seen))
        advantage = target - value.detach()
        entropy = choice.entropy().mean()
        value_loss = (target - value).square().mean()
        loss = -(choice.log_prob(torch.cat(taken)) * advantage).mean()
        loss = loss + config["vf_coef"] * value_loss - config["ent_coef"] * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_grad_norm"])
        optimizer.step()
        explained = 1 - (target - value.detach()).var() / (target.var() + 1e-8)
        length = float(np.mean(env.lengths[-20:])) if env.lengths else 0.0
        run.log(reward=length, entropy=entropy.detach(), explained_variance=explained)
    run.finish()
