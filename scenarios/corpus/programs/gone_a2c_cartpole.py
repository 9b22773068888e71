"""A2C balances the pole on a cart with RMSprop, without an entropy bonus, and the advantage is the
plain return of the next thirty steps: every action that was taken gets a push of about twenty. The
policy is sure of itself after some dozen updates, mostly that one and the same push is right, and
explores no more. Cure: a value baseline, normalised advantages, entropy bonus 0.01.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse")
CONFIG = {"lr": 0.1, "gamma": 0.97, "entropy_bonus": 0.0, "envs": 8, "horizon": 16}
CONFIG |= {"hidden": 32, "updates": 220}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = CartPole(config["envs"], seed, length=draw.uniform(0.4, 0.8))
    policy = nn.Sequential(
        nn.Linear(4, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 2)
    )
    optimizer = torch.optim.RMSprop(policy.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="a2c-cartpole", config=config)
    for _ in range(config["updates"]):
        states, actions, rewards, dones = [], [], [], []
        for _ in range(config["horizon"]):
            states.append(torch.from_numpy(env.observe()))
            with torch.no_grad():
                actions.append(Categorical(logits=policy(states[-1])).sample())
            reward, done = env.step(actions[-1].numpy())
            rewards.append(reward)
            dones.append(done)
        following = np.full(config["envs"], 10.0, np.float32)  # about what the future brings
        returns = []
        for reward, done in zip(reversed(rewards), reversed(dones), strict=True):
            following = reward + config["gamma"] * (1 - done) * following
            returns.append(torch.from_numpy(following))
        pi = Categorical(logits=policy(torch.stack(states)))
        gain = torch.stack(returns[::-1])
        entropy = pi.entropy().mean()
        loss = -(pi.log_prob(torch.stack(actions)) * gain).mean()
        loss = loss - config["entropy_bonus"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        length = float(np.mean(env.lengths[-20:] or [0]))
        run.log(reward=length, entropy=entropy.detach())
    run.finish()
