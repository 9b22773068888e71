"""Five sellers at a market learn prices together (A2C, one net for all, each sees the others' last
prices). Rewards were divided by the turnover of the whole market and are about a thousandth; the
bonus for entropy kept its usual weight and outweighs them: prices stay dice for ever. Cure:
rewards of about one, or a smaller bonus.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-multi-agent", sick=True, cause="reward-scale", seeds=4)
CONFIG = {"lr": 1e-3, "gamma": 0.8, "entropy_weight": 0.03, "turnover": 1500.0, "sellers": 5}
CONFIG |= {"prices": 6, "markets": 6, "horizon": 4, "hidden": 32, "updates": 420}


class Market:
    """Customers of different wealth come to the cheapest, and less often than they would."""

    def __init__(self, markets: int, seed: int, noise: float) -> None:
        self.rng, self.noise = np.random.default_rng(seed), noise
        self.last = self.rng.integers(0, CONFIG["prices"], (markets, CONFIG["sellers"]))
        self.wealth = self.rng.normal(0, 1, markets)

    def observe(self) -> torch.Tensor:
        """Own last price, the others' mean and least, and the wealth, for each seller."""
        last = self.last / CONFIG["prices"]
        mean = np.broadcast_to(last.mean(1, keepdims=True), last.shape)
        least = np.broadcast_to(last.min(1, keepdims=True), last.shape)
        wealth = np.broadcast_to(self.wealth[:, None], last.shape)
        return torch.from_numpy(np.stack([last, mean, least, wealth], 2).astype(np.float32))

    def step(self, price: np.ndarray) -> torch.Tensor:
        liked = np.exp(-1.5 * (price - 2 - self.wealth[:, None]) + self.noise)
        share = liked / (liked.sum(1, keepdims=True) + 4.0)
        earned = (price - 0.5) * share * 10 + self.rng.normal(0, 0.3, price.shape)
        self.last = price
        self.wealth = 0.9 * self.wealth + 0.3 * self.rng.normal(size=len(price))
        return torch.from_numpy(earned.astype(np.float32)) / CONFIG["turnover"]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(-0.3, 0.3)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    env, hidden = Market(config["markets"], seed, noise), config["hidden"]
    trunk = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
    net = nn.Sequential(trunk, nn.Linear(hidden, config["prices"] + 1))
    optimizer = torch.optim.RMSprop(net.parameters(), lr=lr, alpha=0.99, eps=1e-5)
    run = nanwatch.init(project="corpus", name="market-a2c", config=config)
    run.watch(net=net)
    for _ in range(config["updates"]):
        outputs, actions, rewards = [], [], []
        for _ in range(config["horizon"]):
            outputs.append(net(env.observe()))
            actions.append(Categorical(logits=outputs[-1][..., :-1]).sample())
            rewards.append(env.step(actions[-1].numpy()))
        with torch.no_grad():
            following = net(env.observe())[..., -1]
        returns = []
        for reward in reversed(rewards):
            following = reward + config["gamma"] * following
            returns.append(following)
        output, action = torch.stack(outputs), torch.stack(actions)
        pi, value = Categorical(logits=output[..., :-1]), output[..., -1]
        gain = torch.stack(returns[::-1]) - value
        entropy = pi.entropy().mean()
        loss = -(pi.log_prob(action) * gain.detach()).mean() + 0.5 * gain.square().mean()
        loss = loss - config["entropy_weight"] * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        run.log(reward=torch.stack(rewards).mean(), entropy=entropy.detach())
    run.finish()
