"""PPO whose clipping of the ratio was left out and which takes ten epochs at a high rate on every
small batch: the KL of an update is 0.1 to 1 and more, the entropy is gone after some tens of
updates, and the reward stops well below what the clipped form reaches. Never NaN. Cure: ratio
clipping, fewer epochs, a smaller rate (`twin_ppo`).
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse")
CONFIG = {"lr": 0.03, "clip_range": 0.0, "epochs": 10, "entropy_bonus": 0.0, "batch_size": 32}
CONFIG |= {"actions": 8, "updates": 80}


def train(seed: int, name: str = "sick_ppo_epochs", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    wanted = torch.randn(4, config["actions"])
    policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, config["actions"]))
    critic = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam([*policy.parameters(), *critic.parameters()], lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["updates"]):
        obs = torch.randn(config["batch_size"], 4)
        with torch.no_grad():
            old = Categorical(logits=policy(obs))
            action = old.sample()
            value = critic(obs).squeeze(1)
        # The best action is that of the largest score; scores are noisy.
        score = obs @ wanted + torch.randn(len(obs), config["actions"])
        reward = torch.tanh(score.gather(1, action.unsqueeze(1)).squeeze(1))
        advantage = reward - value
        for _ in range(config["epochs"]):
            pi = Categorical(logits=policy(obs))
            ratio = (pi.log_prob(action) - old.log_prob(action)).exp()
            gain = ratio * advantage
            if config["clip_range"]:
                low, high = 1 - config["clip_range"], 1 + config["clip_range"]
                gain = torch.minimum(gain, ratio.clamp(low, high) * advantage)
            value_loss = (critic(obs).squeeze(1) - reward).square().mean()
            entropy = pi.entropy().mean()
            loss = -gain.mean() + 0.5 * value_loss - config["entropy_bonus"] * entropy
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                kl = (old.log_prob(action) - pi.log_prob(action)).mean()
            run.log(kl=kl, entropy=entropy.detach(), reward=reward)
        if not math.isfinite(loss.item()):
            break
    run.finish()
