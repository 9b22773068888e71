"""An actor critic learns to fish: who takes less leaves more to grow, so that the better the
policy, the larger the returns. The value loss starts low and rises severalfold, up to a
hundredfold, with them, and the entropy falls. Nothing is wrong."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 1.5e-3, "gamma": 0.98, "ponds": 24, "months": 24, "updates": 300, "hidden": 32}
CONFIG |= {"value_weight": 0.05, "entropy_weight": 0.005, "max_norm": 1.0}
SHARES = np.array([0.0, 0.2, 0.5, 0.9], np.float32)


class Ponds:
    def __init__(self, count: int, seed: int, growth: float) -> None:
        self._rng, self._growth, self._count = np.random.default_rng(seed), growth, count
        self.stock_up()

    def stock_up(self) -> None:
        """A new licence begins with a few young fish."""
        self._stock = self._rng.uniform(0.2, 0.6, self._count).astype(np.float32)

    def observe(self) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._stock, np.log(self._stock + 0.01)], axis=1))

    def fish(self, action: np.ndarray) -> torch.Tensor:
        caught = SHARES[action] * self._stock
        stock = self._stock - caught
        stock = stock + self._growth * stock * (1 - stock / 10)
        stock *= np.exp(self._rng.normal(0, 0.05, len(stock)))
        self._stock = stock.clip(0.05, 12).astype(np.float32)
        return torch.from_numpy(caught)


def mlp(outputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    ponds = Ponds(config["ponds"], seed, draw.uniform(0.4, 0.45))
    policy, value = mlp(len(SHARES), config["hidden"]), mlp(1, config["hidden"])
    parameters = [*policy.parameters(), *value.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"])
    run = nanwatch.init(project="corpus", name="fishers", config=config)
    for _ in range(config["updates"]):
        ponds.stock_up()
        seen, taken, rewards = [], [], []
        for _ in range(config["months"]):
            seen.append(ponds.observe())
            with torch.no_grad():
                taken.append(Categorical(logits=policy(seen[-1])).sample())
            rewards.append(ponds.fish(taken[-1].numpy()))
        returns, total = [], torch.zeros(config["ponds"])
        for reward in reversed(rewards):
            total = reward + config["gamma"] * total
            returns.insert(0, total)
        states, actions, returns = torch.stack(seen), torch.stack(taken), torch.stack(returns)
        guessed, choice = value(states).squeeze(2), Categorical(logits=policy(states))
        gain = (returns - guessed).detach()
        gain = (gain - gain.mean()) / (gain.std() + 1e-6)
        value_loss = (returns - guessed).square().mean()
        entropy = choice.entropy().mean()
        loss = -(choice.log_prob(actions) * gain).mean() + config["value_weight"] * value_loss
        loss = loss - config["entropy_weight"] * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config["max_norm"])
        optimizer.step()
        run.log(
            reward=torch.stack(rewards).mean(),
            value_loss=value_loss.detach(),
            entropy=entropy.detach(),
        )
    run.finish()
