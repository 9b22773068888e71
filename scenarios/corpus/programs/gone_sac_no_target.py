"""Soft actor-critic with a single critic that is its own target, a high gamma and eight critic
updates for each of the actor "for sample efficiency". The critic overrates actions that it has
not seen, bootstraps from them at once, and Q grows by a factor every few updates until it
overflows. Cure: two critics, slow targets, one update.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Reach, Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence")
CONFIG = {"lr": 0.008, "actor_lr": 1e-3, "gamma": 0.99, "alpha": 0.05, "batch_size": 32}
CONFIG |= {"utd": 8, "hidden": 32, "envs": 4, "steps": 120}


def mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def act(policy: nn.Module, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_std = policy(obs).chunk(2, dim=1)
    pi = Normal(mean, log_std.clamp(-4, 1).exp())
    raw = pi.rsample()
    return raw, pi.log_prob(raw).sum(1, keepdim=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.95, 1.4)}
    env, replay = Reach(config["envs"], seed), Replay(4000, 4, 2, seed)
    policy, critic = mlp(4, 4, config["hidden"]), mlp(6, 1, config["hidden"])
    critic_optimizer = torch.optim.SGD(critic.parameters(), lr=config["lr"], momentum=0.9)
    policy_optimizer = torch.optim.Adam(policy.parameters(), lr=config["actor_lr"])
    run = nanwatch.init(project="corpus", name="sac-reach", config=config)
    run.watch(critic=critic, policy=policy)
    broken = 0
    for step in range(-20, config["steps"]):
        obs = env.observe()
        with torch.no_grad():
            action = act(policy, torch.from_numpy(obs))[0].nan_to_num().numpy()
        reward, done = env.step(action)
        replay.add(obs, action.clip(-1, 1), reward, env.observe(), done)
        if step < 0:
            continue
        for _ in range(config["utd"]):
            before, taken, paid, after, _ = map(
                torch.from_numpy, replay.sample(config["batch_size"])
            )
            with torch.no_grad():
                following, log_prob = act(policy, after)
                value = critic(torch.cat([after, following], 1)) - config["alpha"] * log_prob
                target = paid + config["gamma"] * value
            critic_loss = F.mse_loss(critic(torch.cat([before, taken], 1)), target)
            critic_optimizer.zero_grad()
            critic_loss.backward()
            critic_optimizer.step()
        wanted, log_prob = act(policy, before)
        policy_loss = (config["alpha"] * log_prob - critic(torch.cat([before, wanted], 1))).mean()
        policy_optimizer.zero_grad()
        policy_loss.backward()
        policy_optimizer.step()
        if step % 10 == 0:
            run.log(reward=reward.mean())
        broken += not torch.isfinite(critic_loss)
        if broken > 3:
            break
    run.finish()
