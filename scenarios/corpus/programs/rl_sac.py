"""Soft actor-critic swings a pendulum up, with a temperature that it tunes itself: three
optimizers, rewards down to -16, Q down to about -200. Nothing is wrong."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Pendulum, Replay

ABOUT = About(family="rl-off-policy", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "gamma": 0.97, "batch_size": 96, "tau": 0.01, "envs": 12, "updates": 650,
          "hidden": 48}  # fmt: skip


def mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def act(policy: nn.Module, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_std = policy(observation).chunk(2, dim=1)
    choice = Normal(mean, log_std.clamp(-5, 2).exp())
    raw = choice.rsample()
    log_prob = choice.log_prob(raw) - 2 * (np.log(2.0) - raw - F.softplus(-2 * raw))
    return torch.tanh(raw), log_prob.sum(1, keepdim=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = Pendulum(config["envs"], seed)
    policy, q1, q2 = (mlp(i, o, config["hidden"]) for i, o in ((3, 2), (4, 1), (4, 1)))
    q1_target, q2_target = copy.deepcopy(q1), copy.deepcopy(q2)
    log_alpha = torch.zeros(1, requires_grad=True)
    q_optimizer = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=config["lr"])
    policy_optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    alpha_optimizer = torch.optim.Adam([log_alpha], lr=config["lr"])
    replay = Replay(20_000, 3, 1, seed)
    run = nanwatch.init(project="corpus", name="sac-pendulum", config=config)
    run.watch(policy=policy, q1=q1, q2=q2)
    while (update := replay.count // config["envs"] - 50) < config["updates"]:
        observation = env.observe()
        with torch.no_grad():
            action = act(policy, torch.from_numpy(observation))[0].numpy()
        if update < 0:
            action = draw.uniform(-1, 1, action.shape)
        reward, done = env.step(action)
        replay.add(observation, action, reward, env.observe(), done)
        if update < 0:
            continue
        before, taken, paid, after, over = map(
            torch.from_numpy, replay.sample(config["batch_size"])
        )
        alpha = log_alpha.exp().detach()
        with torch.no_grad():
            following, log_prob = act(policy, after)
            pair = torch.cat([after, following], dim=1)
            value = torch.minimum(q1_target(pair), q2_target(pair)) - alpha * log_prob
            target = paid + config["gamma"] * (1 - over) * value
        pair = torch.cat([before, taken], dim=1)
        q_loss = F.mse_loss(q1(pair), target) + F.mse_loss(q2(pair), target)
        q_optimizer.zero_grad()
        q_loss.backward()
        q_optimizer.step()
        wanted, log_prob = act(policy, before)
        pair = torch.cat([before, wanted], dim=1)
        policy_loss = (alpha * log_prob - torch.minimum(q1(pair), q2(pair))).mean()
        policy_optimizer.zero_grad()
        policy_loss.backward()
        policy_optimizer.step()
        alpha_loss = -(log_alpha.exp() * (log_prob.detach() - 1.0)).mean()
        alpha_optimizer.zero_grad()
        alpha_loss.backward()
        alpha_optimizer.step()
        with torch.no_grad():
            for slow, fast in ((q1_target, q1), (q2_target, q2)):
                for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                    old.lerp_(new, config["tau"])
        run.log(reward=reward.mean(), alpha=float(alpha))
    run.finish()
