"""PPO on the cart pole skips every minibatch whose KL to the old policy is above a limit. The copy
that stands for the old policy was made once, before the loop, and is never renewed: the policy
learns for a while, then it is as far from that copy as the limit allows, and every minibatch of
every later rollout is skipped. Cure: copy the policy before each rollout.
"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical, kl_divergence

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole

ABOUT = About(family="rl-on-policy", sick=True, cause="all-updates-skipped")
CONFIG = {"lr": 4e-3, "gamma": 0.97, "clip_range": 0.2, "target_kl": 0.008, "envs": 8}
CONFIG |= {"horizon": 16, "epochs": 2, "minibatches": 2, "hidden": 32, "updates": 130}


class Agent(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2))
        self.critic = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = CartPole(config["envs"], seed, length=draw.uniform(0.4, 0.7))
    agent = Agent(config["hidden"])
    old = copy.deepcopy(agent.actor).requires_grad_(False)
    optimizer = torch.optim.AdamW(agent.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="cartpole-ppo-kl", config=config)
    run.watch(agent=agent)
    for _ in range(config["updates"]):
        states, actions, rewards, dones = [], [], [], []
        for _ in range(config["horizon"]):
            states.append(torch.from_numpy(env.observe()))
            with torch.no_grad():
                actions.append(Categorical(logits=agent.actor(states[-1])).sample())
            reward, done = env.step(actions[-1].numpy())
            rewards.append(torch.from_numpy(reward))
            dones.append(torch.from_numpy(done))
        with torch.no_grad():
            following = agent.critic(torch.from_numpy(env.observe())).squeeze(1)
        returns = []
        for reward, done in zip(reversed(rewards), reversed(dones), strict=True):
            following = reward + config["gamma"] * (1 - done) * following
            returns.append(following)
        obs, action, wanted = torch.cat(states), torch.cat(actions), torch.cat(returns[::-1])
        for _ in range(config["epochs"]):
            for rows in torch.randperm(len(obs)).chunk(config["minibatches"]):
                optimizer.zero_grad()
                pi, before = Categorical(logits=agent.actor(obs[rows])), old(obs[rows])
                value = agent.critic(obs[rows]).squeeze(1)
                gain = (wanted[rows] - value).detach()
                gain = (gain - gain.mean()) / (gain.std() + 1e-6)
                before = Categorical(logits=before)
                ratio = (pi.log_prob(action[rows]) - before.log_prob(action[rows])).exp()
                bounded = ratio.clamp(1 - config["clip_range"], 1 + config["clip_range"])
                loss = -torch.minimum(ratio * gain, bounded * gain).mean()
                loss = loss + 0.5 * (value - wanted[rows]).square().mean()
                kl = kl_divergence(before, pi).mean().item()
                loss.backward()
                if kl < config["target_kl"]:
                    optimizer.step()
        run.log(reward=float(np.mean(env.lengths[8:][-20:] or [0])), kl=kl)
    run.finish()
