"""PPO moves a net with a Gaussian policy so that falling fruit is caught: sixteen copies, rollouts
of sixteen steps, three epochs of four minibatches with normalised advantages, clipped ratios,
value loss, a small entropy bonus, gradients clipped at 0.5, a rate that falls in a line, and an
early end of the epochs if the policy moved too far. Nothing is wrong."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "gamma": 0.95, "lam": 0.95, "envs": 16, "rollout": 16, "rounds": 60}
CONFIG |= {"epochs": 3, "clip": 0.2, "entropy_bonus": 0.002, "max_norm": 0.5, "kl_limit": 0.03}


class Orchard:
    """A fruit falls with some wind; the net has inertia. 1 for each caught, -0.5 for a lost one."""

    def __init__(self, copies: int, wind: float, seed: int) -> None:
        self.rng, self.copies, self.wind = np.random.default_rng(seed), copies, wind
        self.net, self.speed = np.zeros(copies), np.zeros(copies)
        self.x, self.drift = self.rng.uniform(-1, 1, copies), self.rng.normal(0, wind, copies)
        self.y = self.rng.uniform(0.2, 1, copies)

    def observe(self) -> torch.Tensor:
        parts = [self.net, self.speed, self.x, self.drift, self.y]
        return torch.from_numpy(np.stack(parts, 1).astype(np.float32))

    def step(self, push: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        self.speed = 0.7 * self.speed + 0.1 * np.clip(push, -1, 1)
        self.net = np.clip(self.net + self.speed, -1.2, 1.2)
        self.x, self.y = np.clip(self.x + self.drift, -1.2, 1.2), self.y - 0.1
        down = self.y <= 0
        caught = down & (abs(self.x - self.net) < 0.15)
        reward = 1.5 * caught - 0.5 * down - 0.02 * abs(self.x - self.net)
        count = int(down.sum())
        self.x[down], self.y[down] = self.rng.uniform(-1, 1, count), 1
        self.drift[down] = self.rng.normal(0, self.wind, count)
        return torch.from_numpy(reward).float(), torch.from_numpy(down).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    env = Orchard(config["envs"], draw.uniform(0.01, 0.04), seed)
    actor = nn.Sequential(nn.Linear(5, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(),
                          nn.Linear(48, 1))  # fmt: skip
    critic = nn.Sequential(nn.Linear(5, 48), nn.Tanh(), nn.Linear(48, 1))
    spread = nn.Parameter(torch.tensor([-0.3]))
    parameters = [*actor.parameters(), *critic.parameters(), spread]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"], eps=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, config["rounds"])
    run = nanwatch.init(project="corpus", name="catcher-ppo", config=config)
    for _ in range(config["rounds"]):
        kept: list[list[torch.Tensor]] = [[], [], [], [], [], []]
        with torch.no_grad():
            for _ in range(config["rollout"]):
                seen = env.observe()
                policy = Normal(actor(seen).squeeze(1), spread.exp())
                action = policy.sample()
                reward, over = env.step(action.numpy())
                row = [seen, action, policy.log_prob(action), critic(seen).squeeze(1), reward, over]
                for column, value in zip(kept, row, strict=True):
                    column.append(value)
            states, actions, before, values, rewards, overs = map(torch.stack, kept)
            after, gain, gains = critic(env.observe()).squeeze(1), torch.zeros(config["envs"]), []
            for t in reversed(range(config["rollout"])):
                alive = config["gamma"] * (1 - overs[t])
                gain = rewards[t] + alive * after - values[t] + alive * config["lam"] * gain
                after = values[t]
                gains.append(gain)
            gains = torch.stack(gains[::-1])
        states, actions, before = states.flatten(0, 1), actions.flatten(), before.flatten()
        goals, gains = (gains + values).flatten(), gains.flatten()
        far = 0.0
        for _ in range(config["epochs"]):
            if far > config["kl_limit"]:
                break
            for rows in torch.randperm(len(states)).chunk(4):
                policy = Normal(actor(states[rows]).squeeze(1), spread.exp())
                change = policy.log_prob(actions[rows]) - before[rows]
                adv = (gains[rows] - gains[rows].mean()) / (gains[rows].std() + 1e-8)
                ratio = change.exp()
                kept_ratio = ratio.clamp(1 - config["clip"], 1 + config["clip"])
                gained = torch.minimum(ratio * adv, kept_ratio * adv).mean()
                miss = (critic(states[rows]).squeeze(1) - goals[rows]).square().mean()
                entropy = policy.entropy().mean()
                loss = -gained + 0.5 * miss - config["entropy_bonus"] * entropy
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, config["max_norm"])
                optimizer.step()
                far = float((ratio - 1 - change).mean())
        schedule.step()
        run.log(reward=rewards.mean(), entropy=entropy.detach())
    run.finish()
