"""Discrete soft actor-critic for a pole on a cart, with a temperature that tunes itself. In the
loss of the temperature the sign of the entropy gap was lost on the way from the paper (rewritten
for discrete actions): the less the policy explores, the colder it gets. Entropy goes to nothing,
and the policy stays at what it tried first. Cure: alpha * (entropy - target), not the reverse.
"""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole, Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="entropy-collapse")
CONFIG = {"lr": 3e-3, "alpha_lr": 0.08, "gamma": 0.97, "tau": 0.02, "batch_size": 64}
CONFIG |= {"envs": 8, "hidden": 32, "steps": 500}


def mlp(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "alpha_lr": CONFIG["alpha_lr"] * draw.uniform(0.7, 1.4)}
    env, replay = CartPole(config["envs"], seed), Replay(8000, 4, 1, seed)
    policy, critic = mlp(config["hidden"]), mlp(config["hidden"])
    slow = copy.deepcopy(critic).requires_grad_(False)
    policy_optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config["lr"])
    log_alpha, least = torch.full((1,), -3.0), 0.98 * math.log(2)
    run = nanwatch.init(project="corpus", name="cartpole-discrete-sac", config=config)
    run.watch(critic=critic, policy=policy)
    for step in range(-10, config["steps"]):
        obs = env.observe()
        with torch.no_grad():
            action = torch.multinomial(policy(torch.from_numpy(obs)).softmax(1), 1).numpy()
        reward, done = env.step(action[:, 0])
        replay.add(obs, action.astype(np.float32), reward, env.observe(), done)
        if step < 0:
            continue
        before, taken, paid, after, over = map(
            torch.from_numpy, replay.sample(config["batch_size"])
        )
        alpha = log_alpha.exp()
        with torch.no_grad():
            log_pi = policy(after).log_softmax(1)
            value = (log_pi.exp() * (slow(after) - alpha * log_pi)).sum(1)
            target = paid.flatten() + config["gamma"] * (1 - over.flatten()) * value
        q = critic(before).gather(1, taken.long().view(-1, 1)).squeeze(1)
        critic_loss = F.smooth_l1_loss(q, target)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        log_pi = policy(before).log_softmax(1)
        entropy = -(log_pi.exp() * log_pi).sum(1).mean()
        policy_loss = (log_pi.exp() * (alpha * log_pi - critic(before).detach())).sum(1).mean()
        policy_optimizer.zero_grad()
        policy_loss.backward()
        policy_optimizer.step()
        with torch.no_grad():
            log_alpha += config["alpha_lr"] * (entropy - least)  # the sign
            for old, new in zip(slow.parameters(), critic.parameters(), strict=True):
                old.lerp_(new, config["tau"])
        length = float(np.mean(env.lengths[8:][-20:] or [0]))
        run.log(reward=length, entropy=entropy.detach(), alpha=alpha.item())
    run.finish()
