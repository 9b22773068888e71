"""A2C with a shared trunk trades one asset, and the reward is the profit in cents: 1e5 a step. The
value loss is 1e10, its gradients (no clipping) throw the trunk about, the policy's logits go with
it until the distribution is refused. Cure: rewards in units of their spread (`twin_a2c_scaled`).
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="reward-scale")
CONFIG = {"lr": 3e-3, "gamma": 0.9, "reward_scale": 1e4, "max_norm": 0.0, "markets": 16}
CONFIG |= {"rollout": 5, "hidden": 32, "steps": 700}


class ActorCritic(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, hidden))
        self.actor, self.critic = nn.Linear(hidden, 3), nn.Linear(hidden, 1)

    def forward(self, obs: torch.Tensor) -> tuple[Categorical, torch.Tensor]:
        x = self.trunk(obs).relu()
        return Categorical(logits=self.actor(x)), self.critic(x).squeeze(-1)


class Market:
    """Mean-reverting prices; observed are the price and its last two moves."""

    def __init__(self, n: int) -> None:
        self.price, self.moves = torch.randn(n), torch.zeros(n, 2)

    def obs(self) -> torch.Tensor:
        return torch.cat([self.price.unsqueeze(1), self.moves], dim=1)

    def step(self, action: torch.Tensor) -> torch.Tensor:
        """Actions (n,): 0 sell, 1 hold, 2 buy. Returns the profit of each."""
        move = -0.3 * self.price + 0.3 * torch.randn(len(self.price))
        self.price = self.price + move
        self.moves = torch.stack([move, self.moves[:, 0]], dim=1)
        return (action - 1) * move


def train(seed: int, name: str = "sick_a2c_reward_scale", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    market, model = Market(config["markets"]), ActorCritic(config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        log_probs, values, rewards, entropy = [], [], [], torch.zeros(())
        for _ in range(config["rollout"]):
            pi, value = model(market.obs())
            action = pi.sample()
            log_probs.append(pi.log_prob(action))
            values.append(value)
            entropy = entropy + pi.entropy().mean() / config["rollout"]
            rewards.append(config["reward_scale"] * market.step(action))
        with torch.no_grad():
            later = model(market.obs())[1]
            returns = []
            for reward in reversed(rewards):
                later = reward + config["gamma"] * later
                returns.insert(0, later)
        error = torch.stack(returns) - torch.stack(values)
        policy_loss = -(torch.stack(log_probs) * error.detach()).mean()
        loss = policy_loss + 0.5 * error.square().mean() - 0.01 * entropy
        optimizer.zero_grad()
        loss.backward()
        if config["max_norm"]:
            clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        run.log(reward=torch.stack(rewards), entropy=entropy.detach())
    run.finish()
