"""PPO cools a building with a Gaussian policy; the reward is minus the energy in watt-hours and a
discomfort, some ten thousand a step, and actor and critic share a trunk and one clip at 0.5. The
value loss is 1e9 and more, the clip leaves next to nothing of the policy's gradient, and costs fall
slowly where they fall at all. Cure: rewards in megawatt-hours, normalised returns.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Normal
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="reward-scale")
CONFIG = {"lr": 3e-4, "gamma": 0.95, "clip_range": 0.2, "max_norm": 0.5, "watt_hours": 2e4}
CONFIG |= {"rooms": 16, "horizon": 12, "epochs": 4, "updates": 120, "hidden": 32}


class Agent(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, hidden), nn.Tanh())
        self.actor, self.critic = nn.Linear(hidden, 1), nn.Linear(hidden, 1)
        self.log_std = nn.Parameter(torch.zeros(1))

    def forward(self, obs: torch.Tensor) -> tuple[Normal, torch.Tensor]:
        x = self.trunk(obs)
        return Normal(self.actor(x), self.log_std.exp()), self.critic(x)


def cool(obs: torch.Tensor, action: torch.Tensor, config: dict) -> tuple[torch.Tensor, ...]:
    """(reward, next state); a state is temperature above the wish, heat outside, hour."""
    warm, outside, hour = obs.unbind(1)
    power = action[:, 0].clamp(-2, 2)
    reward = -config["watt_hours"] * (power.square() * 0.3 + warm.square())
    warm = warm + 0.2 * (outside - warm) - 0.3 * power
    outside = 0.9 * outside + 0.3 * torch.randn(len(obs)) + 0.2 * torch.sin(hour)
    return reward.unsqueeze(1), torch.stack([warm, outside, hour + 0.26], dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "watt_hours": CONFIG["watt_hours"] * draw.uniform(0.6, 1.5)}
    agent = Agent(config["hidden"])
    optimizer = torch.optim.Adam(agent.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="cooling-ppo", config=config)
    for _ in range(config["updates"]):
        state = torch.randn(config["rooms"], 3)
        states, actions, rewards = [], [], []
        for _ in range(config["horizon"]):
            with torch.no_grad():
                action = agent(state)[0].sample()
            states.append(state)
            actions.append(action)
            reward, state = cool(state, action, config)
            rewards.append(reward)
        with torch.no_grad():
            returns = [agent(state)[1]]
            for reward in reversed(rewards):
                returns.append(reward + config["gamma"] * returns[-1])
        obs, action = torch.cat(states), torch.cat(actions)
        wanted = torch.cat(returns[:0:-1])
        with torch.no_grad():
            pi, value = agent(obs)
            old, gain = pi.log_prob(action), wanted - value
            gain = (gain - gain.mean()) / gain.std()
        for _ in range(config["epochs"]):
            pi, value = agent(obs)
            ratio = (pi.log_prob(action) - old).exp()
            bounded = ratio.clamp(1 - config["clip_range"], 1 + config["clip_range"])
            policy_loss = -torch.minimum(ratio * gain, bounded * gain).mean()
            loss = policy_loss + 0.5 * (value - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(agent.parameters(), config["max_norm"])
            optimizer.step()
        run.log(reward=torch.cat(rewards).mean())
    run.finish()
