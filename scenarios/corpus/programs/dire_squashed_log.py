"""Soft actor-critic swings a pendulum up. The correction for the squashing is written as
`log(1 - action ** 2)`, without the 1e-6 of the original: as soon as one sample of a batch lies
so far out that its tanh rounds to one, the log-probability is infinite and with it everything.
Cure: the epsilon, or the softplus form.
"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Pendulum, Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 3e-3, "gamma": 0.98, "batch_size": 96, "tau": 0.02, "envs": 10, "updates": 1500}
CONFIG |= {"hidden": 64, "alpha": 1.0, "reward_scale": 20.0, "warmup": 40}
UNITS = np.array([1, 1, 8], np.float32)
"""Cosine and sine of the angle, and radians a second."""


def mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, outputs),
    )  # fmt: skip


def act(actor: nn.Module, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_std = actor(observation).chunk(2, dim=1)
    normal = Normal(mean, log_std.clamp(-20, 2).exp())
    raw = normal.rsample()
    action = torch.tanh(raw)
    log_prob = normal.log_prob(raw) - torch.log(1 - action.pow(2))
    return action, log_prob.sum(1, keepdim=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = Pendulum(config["envs"], seed)
    rng = np.random.default_rng(seed)
    hidden = config["hidden"]
    actor, q1, q2 = mlp(3, 2, hidden), mlp(4, 1, hidden), mlp(4, 1, hidden)
    q1_target, q2_target = copy.deepcopy(q1), copy.deepcopy(q2)
    q_optimizer = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=config["lr"])
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["lr"])
    replay = Replay(20_000, 3, 1, seed)
    run = nanwatch.init(project="corpus", name="pendulum-sac", config=config)
    run.watch(actor=actor, q1=q1, q2=q2)
    for step in range(config["warmup"] + config["updates"]):
        observation = env.observe() * UNITS
        with torch.no_grad():
            action = act(actor, torch.from_numpy(observation))[0].numpy()
        if step < config["warmup"]:
            action = rng.uniform(-1, 1, action.shape)
        reward, done = env.step(action)
        replay.add(
            observation, action, config["reward_scale"] * reward, env.observe() * UNITS, done
        )
        if step < config["warmup"]:
            continue
        obs, taken, paid, after, over = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            following, log_prob = act(actor, after)
            pair = torch.cat([after, following], 1)
            value = torch.minimum(q1_target(pair), q2_target(pair)) - config["alpha"] * log_prob
            goal = paid + config["gamma"] * (1 - over) * value
        pair = torch.cat([obs, taken], 1)
        q_loss = F.mse_loss(q1(pair), goal) + F.mse_loss(q2(pair), goal)
        q_optimizer.zero_grad()
        q_loss.backward()
        q_optimizer.step()
        wanted, log_prob = act(actor, obs)
        pair = torch.cat([obs, wanted], 1)
        actor_loss = (config["alpha"] * log_prob - torch.minimum(q1(pair), q2(pair))).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        with torch.no_grad():
            for slow, fast in ((q1_target, q1), (q2_target, q2)):
                for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                    old.lerp_(new, config["tau"])
        run.log(reward=float(reward.mean()))
    run.finish()
