"""PPO lands a craft on the moon, four actions. Policy and value share their trunk, it was too slow,
so the rate went up from 3e-4 to 0.02; advantages are not normalised, nothing is clipped but the
ratio, and there is no bonus for entropy. A crash costs 100, the first rollouts are all crashes, and
soon the policy is certain of one thruster and explores nothing any more. Cure: the old rate,
normalised advantages, an entropy bonus."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse", seeds=3)
CONFIG = {"lr": 0.02, "gamma": 0.99, "gae_lambda": 0.95, "n_steps": 48, "envs": 12, "epochs": 4}
CONFIG |= {"batch_size": 144, "clip_range": 0.2, "iterations": 60}


class Lander:
    """A craft over a pad in the plane: nothing, left, up, right."""

    def __init__(self, count: int, seed: int, gravity: float) -> None:
        self.rng, self.count, self.gravity = np.random.default_rng(seed), count, gravity
        self.place, self.speed = np.zeros((count, 2)), np.zeros((count, 2))
        self.age = self.rng.integers(0, 100, count)
        self._launch(np.ones(count, bool))

    def _launch(self, which: np.ndarray) -> None:
        n = int(which.sum())
        self.place[which] = np.stack([self.rng.uniform(-0.7, 0.7, n), np.full(n, 1.0)], 1)
        self.speed[which] = self.rng.normal(0, 0.02, (n, 2))
        self.age[which] = 0

    def observe(self) -> torch.Tensor:
        both = np.concatenate([self.place, 10 * self.speed], 1)
        return torch.from_numpy(both.astype(np.float32))

    def step(self, action: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        push = np.array([[0, 0], [-0.006, 0], [0, 0.011], [0.006, 0]])[action]
        before = np.abs(self.place).sum(1)
        self.speed = self.speed + push - np.array([0, self.gravity])
        self.place = self.place + self.speed
        reward = 20 * (before - np.abs(self.place).sum(1)) - 0.3 * (action == 2)
        down = self.place[:, 1] <= 0
        soft = (np.abs(self.place[:, 0]) < 0.2) & (np.abs(self.speed).max(1) < 0.06)
        away = (np.abs(self.place[:, 0]) > 1.5) | (self.place[:, 1] > 1.6)
        reward = reward + np.where(down & soft, 100.0, np.where(down | away, -100.0, 0.0))
        self.age += 1
        done = down | away
        self._launch(done | (self.age > 150))
        return torch.from_numpy(reward.astype(np.float32)), torch.from_numpy(done).float()


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
        self.actor, self.critic = nn.Linear(48, 4), nn.Linear(48, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.trunk(x)
        return self.actor(x), self.critic(x).squeeze(-1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    env = Lander(config["envs"], seed, draw.uniform(0.003, 0.005))
    model = ActorCritic()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="moon-ppo", config=config)
    for _ in range(config["iterations"]):
        seen, taken, rewards, ends = [], [], [], []
        for _ in range(config["n_steps"]):
            seen.append(env.observe())
            with torch.no_grad():
                taken.append(Categorical(logits=model(seen[-1])[0]).sample())
            reward, done = env.step(taken[-1].numpy())
            rewards.append(reward)
            ends.append(done)
        states, actions = torch.stack(seen), torch.stack(taken)
        with torch.no_grad():
            logits, values = model(torch.cat([states, env.observe()[None]]))
            before = Categorical(logits=logits[:-1]).log_prob(actions).flatten()
        gained, last = torch.zeros_like(values[:-1]), torch.zeros(config["envs"])
        for t in reversed(range(config["n_steps"])):
            goes_on = config["gamma"] * (1 - ends[t])
            error = rewards[t] + goes_on * values[t + 1] - values[t]
            gained[t] = last = error + goes_on * config["gae_lambda"] * last
        target = (gained + values[:-1]).flatten()
        states, actions, gained = states.flatten(0, 1), actions.flatten(), gained.flatten()
        for _ in range(config["epochs"]):
            for rows in torch.randperm(len(states)).split(config["batch_size"]):
                logits, value = model(states[rows])
                choice = Categorical(logits=logits)
                ratio = (choice.log_prob(actions[rows]) - before[rows]).exp()
                edge = config["clip_range"]
                clipped = ratio.clamp(1 - edge, 1 + edge) * gained[rows]
                gain = torch.minimum(ratio * gained[rows], clipped).mean()
                error = (value - target[rows]).square().mean()
                optimizer.zero_grad()
                (0.5 * error - gain).backward()
                optimizer.step()
                run.log(entropy=choice.entropy().mean().detach())
        run.log(reward=torch.stack(rewards).mean())
    run.finish()
