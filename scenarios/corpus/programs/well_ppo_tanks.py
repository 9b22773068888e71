"""PPO with Gaussian actions keeps three leaking water tanks at their marks: the spread of the
policy is a parameter of its own, updates of a rollout stop early when the KL has gone too far,
and the clip at 0.5 binds at first."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "gamma": 0.95, "gae_lambda": 0.9, "n_steps": 25, "envs": 20, "epochs": 6,
          "batch_size": 125, "clip_range": 0.2, "max_grad_norm": 0.5, "target_kl": 0.03,
          "iterations": 40}  # fmt: skip


class Tanks:
    """Each tank leaks into the next; the pumps are slow; a demand comes and goes."""

    def __init__(self, copies: int, draw: np.random.Generator) -> None:
        self.draw, self.leak = draw, draw.uniform(0.05, 0.15)
        self.level = draw.uniform(0, 2, (copies, 3))
        self.demand = draw.uniform(0, 0.2, (copies, 3))

    def observe(self) -> torch.Tensor:
        return torch.tensor(np.hstack([self.level - 1, 5 * self.demand]), dtype=torch.float32)

    def step(self, pumps: np.ndarray) -> torch.Tensor:
        out = self.leak * np.sqrt(self.level)
        self.level += 0.3 * np.clip(pumps, -1, 1) - out - self.demand
        self.level[:, 1:] += out[:, :-1]
        self.level = np.clip(self.level, 0, 2)
        fresh = self.draw.random(self.demand.shape) < 0.05
        self.demand[fresh] = self.draw.uniform(0, 0.2, int(fresh.sum()))
        return torch.tensor(-np.abs(self.level - 1).sum(1), dtype=torch.float32)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = Tanks(config["envs"], draw)
    actor = nn.Sequential(
        nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3)
    )
    critic = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))
    log_std = nn.Parameter(torch.zeros(3))
    parameters = [*actor.parameters(), *critic.parameters(), log_std]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"], eps=1e-5)
    run = nanwatch.init(project="corpus", name="ppo-tanks", config=config)
    for _ in range(config["iterations"]):
        seen, taken, rewards = [env.observe()], [], []
        for _ in range(config["n_steps"]):
            with torch.no_grad():
                taken.append(Normal(actor(seen[-1]), log_std.exp()).sample())
            rewards.append(env.step(taken[-1].numpy()))
            seen.append(env.observe())
        states, actions = torch.stack(seen[:-1]).flatten(0, 1), torch.cat(taken)
        with torch.no_grad():
            values = critic(torch.stack(seen)).squeeze(-1)
            before = Normal(actor(states), log_std.exp()).log_prob(actions).sum(1)
        gained, last = [], torch.zeros(config["envs"])
        for at in reversed(range(config["n_steps"])):
            error = rewards[at] + config["gamma"] * values[at + 1] - values[at]
            last = error + config["gamma"] * config["gae_lambda"] * last
            gained.insert(0, last)
        gain = torch.stack(gained).flatten()
        target = gain + values[:-1].flatten()
        gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        for _ in range(config["epochs"]):
            for rows in torch.randperm(len(states)).split(config["batch_size"]):
                choice = Normal(actor(states[rows]), log_std.exp())
                shift = choice.log_prob(actions[rows]).sum(1) - before[rows]
                ratio, edge = shift.exp(), config["clip_range"]
                kept = torch.min(ratio * gain[rows], ratio.clamp(1 - edge, 1 + edge) * gain[rows])
                error = (critic(states[rows])[:, 0] - target[rows]).square().mean()
                loss = 0.5 * error - kept.mean() - 1e-3 * choice.entropy().sum(1).mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, config["max_grad_norm"])
                optimizer.step()
            kl = ((ratio - 1) - shift).mean().item()
            if kl > config["target_kl"]:
                break
        run.log(reward=torch.stack(rewards).mean(), kl=kl, std=log_std.exp().mean())
    run.finish()
