"""PPO with a Gaussian policy (a learned deviation that is the same everywhere) swings a pendulum
up. Rewards are scaled by the running deviation of the returns and advantages normalised, ten epochs
a rollout that stop when the KL is too large, a rate that falls to zero, clipping at 0.5. For long
it only swings, then the reward leaps. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Pendulum

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 1.5e-3, "gamma": 0.95, "gae_lambda": 0.95, "n_steps": 64, "envs": 16, "epochs": 8}
CONFIG |= {"batch_size": 256, "clip_range": 0.2, "max_grad_norm": 0.5, "iterations": 50}
CONFIG |= {"target_kl": 0.03}


def mlp(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = Pendulum(config["envs"], seed)
    hidden = draw.choice([32, 48, 64])
    policy, value, log_std = mlp(hidden), mlp(hidden), nn.Parameter(torch.zeros(1))
    parameters = [*policy.parameters(), *value.parameters(), log_std]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"], eps=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, config["iterations"])
    run = nanwatch.init(project="corpus", name="pendulum-ppo", config=config)
    returns, spread = torch.zeros(config["envs"]), 10.0
    for _ in range(config["iterations"]):
        seen, taken, rewards = [], [], []
        for _ in range(config["n_steps"]):
            seen.append(torch.from_numpy(env.observe()))
            with torch.no_grad():
                action = torch.normal(policy(seen[-1]), log_std.exp().expand(config["envs"], 1))
            reward = torch.from_numpy(env.step(action.numpy())[0])
            returns = config["gamma"] * returns + reward
            spread = 0.999 * spread + 0.001 * float(returns.std() + 5)
            taken.append(action)
            rewards.append(reward)
        states, actions = torch.stack(seen), torch.stack(taken)
        with torch.no_grad():
            after = torch.from_numpy(env.observe())[None]
            values = value(torch.cat([states, after])).squeeze(2)
            old = torch.distributions.Normal(policy(states), log_std.exp()).log_prob(actions)
        gained, last = torch.zeros_like(values[:-1]), torch.zeros(config["envs"])
        for t in reversed(range(config["n_steps"])):
            error = rewards[t] / spread + config["gamma"] * values[t + 1] - values[t]
            gained[t] = last = error + config["gamma"] * config["gae_lambda"] * last
        target = (gained + values[:-1]).flatten()
        states, actions, old = states.flatten(0, 1), actions.flatten(), old.flatten()
        gained = ((gained - gained.mean()) / (gained.std() + 1e-8)).flatten()
        kl = 0.0
        for _ in range(config["epochs"]):
            if kl > 1.5 * config["target_kl"]:
                break
            for rows in torch.randperm(len(states)).split(config["batch_size"]):
                choice = torch.distributions.Normal(policy(states[rows]).squeeze(1), log_std.exp())
                shift = choice.log_prob(actions[rows]) - old[rows]
                ratio, edge = shift.exp(), config["clip_range"]
                clipped = ratio.clamp(1 - edge, 1 + edge)
                gain = torch.minimum(ratio * gained[rows], clipped * gained[rows]).mean()
                error = (value(states[rows]).squeeze(1) - target[rows]).square().mean()
                optimizer.zero_grad()
                (0.5 * error - gain).backward()
                nn.utils.clip_grad_norm_(parameters, config["max_grad_norm"])
                optimizer.step()
                kl = float(((ratio - 1) - shift).mean().detach())
        schedule.step()
        run.log(reward=torch.stack(rewards).mean(), kl=kl, entropy=choice.entropy().mean().detach())
    run.finish()
