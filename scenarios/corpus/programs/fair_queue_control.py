"""PPO with a KL penalty that adapts itself routes jobs to three queues; rewards are minus the jobs
that wait, and bursts of arrivals make some rounds bad."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "gamma": 0.95, "lambda": 0.9, "envs": 16, "horizon": 24, "rounds": 110,
          "epochs": 3, "minibatches": 2, "kl_target": 0.01, "entropy": 0.04, "value": 0.5,
          "max_norm": 0.5, "reward_scale": 0.05}  # fmt: skip


class Queues:
    """Three servers of different speed; a burst doubles the arrivals for some time; now and then
    a new day begins with empty queues."""

    def __init__(self, copies: int, draw: np.random.Generator) -> None:
        self.draw, self.copies = draw, copies
        self.speed = np.array([0.9, 1.6, 2.6]) * draw.uniform(0.9, 1.1)
        self.length = draw.poisson(2, (copies, 3)).astype(float)
        self.burst = np.zeros(copies, bool)

    def observe(self) -> torch.Tensor:
        seen = np.hstack([self.length / 10, self.length > 0, self.burst[:, None]])
        return torch.from_numpy(seen.astype(np.float32))

    def step(self, action: np.ndarray) -> np.ndarray:
        turned = self.draw.random(self.copies) < np.where(self.burst, 0.2, 0.03)
        self.burst ^= turned
        jobs = self.draw.poisson(np.where(self.burst, 5.0, 2.5))
        self.length[np.arange(self.copies), action] += jobs
        self.length = np.maximum(0, self.length - self.draw.poisson(self.speed, (self.copies, 3)))
        self.length = np.minimum(self.length, 40)
        paid = -self.length.sum(1)
        self.length[self.draw.random(self.copies) < 0.03] = 0
        return paid


def advantages(paid: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Generalised advantages of [horizon, envs]; `value` has one row more."""
    made, last = torch.zeros_like(paid), torch.zeros(paid.shape[1])
    for t in reversed(range(len(paid))):
        gap = paid[t] + CONFIG["gamma"] * value[t + 1] - value[t]
        last = gap + CONFIG["gamma"] * CONFIG["lambda"] * last
        made[t] = last
    return made


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    width = int(draw.choice([32, 48]))
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4), "width": width}
    run = nanwatch.init(project="corpus", name="ppo-queues", config=config)
    env = Queues(CONFIG["envs"], draw)
    actor = nn.Sequential(nn.Linear(7, width), nn.Tanh(), nn.Linear(width, 3))
    critic = nn.Sequential(nn.Linear(7, width), nn.Tanh(), nn.Linear(width, 1))
    weights = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(weights, lr=config["lr"], eps=1e-5)
    penalty, rows = 1.0, CONFIG["envs"] * CONFIG["horizon"]
    for _ in range(CONFIG["rounds"]):
        seen, taken, paid = [], [], []
        for _ in range(CONFIG["horizon"]):
            seen.append(env.observe())
            with torch.no_grad():
                taken.append(actor(seen[-1]).softmax(1).multinomial(1)[:, 0])
            paid.append(torch.from_numpy(env.step(taken[-1].numpy())).float())
        with torch.no_grad():
            value = critic(torch.stack([*seen, env.observe()]))[:, :, 0]
            gain = advantages(CONFIG["reward_scale"] * torch.stack(paid), value)
            wanted = (gain + value[:-1]).flatten()
            x, a, gain = torch.cat(seen), torch.cat(taken), gain.flatten()
            old = actor(x).log_softmax(1)
            gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        for _ in range(CONFIG["epochs"]):
            for part in torch.randperm(rows).chunk(CONFIG["minibatches"]):
                new = actor(x[part]).log_softmax(1)
                chosen = a[part, None]
                ratio = (new.gather(1, chosen) - old[part].gather(1, chosen)).exp()[:, 0]
                kl = (old[part].exp() * (old[part] - new)).sum(1).mean()
                entropy = -(new.exp() * new).sum(1).mean()
                error = F.mse_loss(critic(x[part])[:, 0], wanted[part])
                loss = penalty * kl - (ratio * gain[part]).mean() - CONFIG["entropy"] * entropy
                loss = loss + CONFIG["value"] * error
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(weights, CONFIG["max_norm"])
                optimizer.step()
        with torch.no_grad():
            kl = (old.exp() * (old - actor(x).log_softmax(1))).sum(1).mean()
            left = 1 - (wanted - critic(x)[:, 0]).var() / (wanted.var() + 1e-8)
        penalty *= 1.5 if kl > 1.5 * CONFIG["kl_target"] else 1.0
        penalty /= 1.5 if kl < CONFIG["kl_target"] / 1.5 else 1.0
        run.log(reward=torch.stack(paid).mean(), kl=kl, entropy=entropy, explained_variance=left)
    run.finish()
