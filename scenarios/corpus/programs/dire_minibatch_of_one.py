"""PPO keeps a cart's pole up. Whole episodes are gathered until there are enough steps, then dealt
out in minibatches of 64 whose advantages are normalised one by one. Sooner or later the last
minibatch holds a single step: the standard deviation of one number is NaN, and the policy with
it. Cure: leave such a rest out, or normalise over the rollout.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole

ABOUT = About(family="rl-on-policy", sick=True, cause="bad-batch", seeds=3)
CONFIG = {"lr": 1e-3, "gamma": 0.98, "lam": 0.95, "minibatch": 64, "epochs": 3, "least": 300}
CONFIG |= {"clip_range": 0.2, "entropy_bonus": 0.005, "max_norm": 0.5, "hidden": 32}
CONFIG |= {"rollouts": 110}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = CartPole(1, seed, length=draw.uniform(0.4, 0.7))
    hidden = config["hidden"]
    actor = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2))
    critic = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"])
    run = nanwatch.init(project="corpus", name="pole-episodes", config=config)
    for _ in range(config["rollouts"]):
        observations, actions, old, advantages, returns, lengths = [], [], [], [], [], []
        while len(observations) < config["least"]:
            paid, values, ended, steps = [], [], len(env.lengths), 0
            while len(env.lengths) == ended:
                obs = torch.from_numpy(env.observe())
                with torch.no_grad():
                    policy = Categorical(logits=actor(obs))
                    action = policy.sample()
                    values.append(float(critic(obs)))
                reward, _ = env.step(action.numpy())
                observations.append(obs)
                actions.append(action)
                old.append(policy.log_prob(action))
                paid.append(float(reward[0]))
                steps += 1
            gain, after, gains = 0.0, 0.0, []
            for reward, value in zip(paid[::-1], values[::-1], strict=True):
                gain = (
                    reward
                    + config["gamma"] * after
                    - value
                    + (config["gamma"] * config["lam"] * gain)
                )
                after = value
                gains.insert(0, gain)
            advantages += gains
            returns += [gain + value for gain, value in zip(gains, values, strict=True)]
            lengths.append(steps)
        obs, action, before = torch.cat(observations), torch.cat(actions), torch.cat(old)
        advantage, goal = torch.tensor(advantages), torch.tensor(returns)
        reward = sum(lengths) / len(lengths)
        for _ in range(config["epochs"]):
            for rows in torch.randperm(len(obs)).split(config["minibatch"]):
                gain = advantage[rows]
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                policy = Categorical(logits=actor(obs[rows]))
                ratio = (policy.log_prob(action[rows]) - before[rows]).exp()
                clipped = ratio.clamp(1 - config["clip_range"], 1 + config["clip_range"])
                policy_loss = -torch.min(ratio * gain, clipped * gain).mean()
                value_loss = (critic(obs[rows]).squeeze(1) - goal[rows]).square().mean()
                entropy = policy.entropy().mean()
                loss = policy_loss + 0.5 * value_loss - config["entropy_bonus"] * entropy
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, config["max_norm"])
                optimizer.step()
                run.log(reward=reward)
    run.finish()
