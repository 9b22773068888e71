"""PPO with GAE in a windy corridor of eight rooms. The entropy bonus was added to the loss where
it had to be subtracted: the policy is paid for being sure, is sure of one action within a few
dozen updates, and no longer finds out what the others would have brought. Cure: minus.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse")
CONFIG = {"lr": 4e-3, "gamma": 0.95, "lambda": 0.9, "clip_range": 0.2, "entropy_coef": 0.5}
CONFIG |= {"rooms": 8, "actions": 4, "envs": 16, "horizon": 12, "epochs": 3, "updates": 150}


class Corridor:
    """In each room another of four doors leads on; a wrong one leads back. The end pays 1."""

    def __init__(self, rooms: int, actions: int, envs: int, wind: float) -> None:
        self.doors, self.wind = torch.randint(actions, (rooms,)), wind
        self.rooms, self.at = rooms, torch.zeros(envs, dtype=torch.long)

    def step(self, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        right = (action == self.doors[self.at]) & (torch.rand(len(action)) > self.wind)
        self.at = (self.at + 2 * right.long() - 1).clamp(min=0)
        done = self.at >= self.rooms
        self.at[done] = 0
        return done.float() - 0.01 + 0.02 * right.float(), done.float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    rooms = config["rooms"]
    env = Corridor(rooms, config["actions"], config["envs"], draw.uniform(0.05, 0.15))
    body = nn.Sequential(nn.Linear(rooms, 32), nn.Tanh(), nn.Linear(32, config["actions"] + 1))
    optimizer = torch.optim.Adam(body.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="corridor-ppo", config=config)
    for _ in range(config["updates"]):
        seen, actions, rewards, dones = [], [], [], []
        for _ in range(config["horizon"]):
            seen.append(F.one_hot(env.at, rooms).float())
            with torch.no_grad():
                actions.append(Categorical(logits=body(seen[-1])[:, 1:]).sample())
            reward, done = env.step(actions[-1])
            rewards.append(reward)
            dones.append(done)
        seen.append(F.one_hot(env.at, rooms).float())
        obs, action = torch.stack(seen), torch.stack(actions)
        with torch.no_grad():
            out = body(obs)
            value, old = out[..., 0], Categorical(logits=out[:-1, :, 1:]).log_prob(action)
            advantage, following = torch.zeros_like(old), torch.zeros(config["envs"])
            for t in reversed(range(config["horizon"])):
                alive = config["gamma"] * (1 - dones[t])
                error = rewards[t] + alive * value[t + 1] - value[t]
                following = error + alive * config["lambda"] * following
                advantage[t] = following
            wanted = advantage + value[:-1]
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-5)
        for _ in range(config["epochs"]):
            out = body(obs[:-1])
            pi = Categorical(logits=out[..., 1:])
            ratio = (pi.log_prob(action) - old).exp()
            bounded = ratio.clamp(1 - config["clip_range"], 1 + config["clip_range"])
            loss = -torch.minimum(ratio * advantage, bounded * advantage).mean()
            loss = loss + 0.5 * F.mse_loss(out[..., 0], wanted)
            loss = loss + config["entropy_coef"] * pi.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(body.parameters(), 0.5)
            optimizer.step()
        run.log(reward=torch.stack(rewards).mean(), entropy=pi.entropy().mean())
    run.finish()
