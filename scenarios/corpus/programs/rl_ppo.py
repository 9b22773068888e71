"""PPO on cart poles with the usual settings: clip 0.5 that binds at nearly every update, several
epochs over each rollout, a rate that falls to zero. Nothing is wrong."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole

ABOUT = About(family="rl-on-policy", sick=False, seeds=7)
CONFIG = {"lr": 1e-3, "gamma": 0.98, "gae_lambda": 0.95, "n_steps": 32, "envs": 16, "epochs": 4,
          "batch_size": 128, "clip_range": 0.2, "max_grad_norm": 0.5, "ent_coef": 0.01,
          "iterations": 50}  # fmt: skip


def mlp(outputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def advantages(
    rewards: torch.Tensor, ends: torch.Tensor, values: torch.Tensor, config: dict
) -> torch.Tensor:
    found, last = torch.zeros_like(rewards), torch.zeros(rewards.shape[1])
    for at in reversed(range(len(rewards))):
        goes_on = config["gamma"] * (1 - ends[at])
        error = rewards[at] + goes_on * values[at + 1] - values[at]
        found[at] = last = error + goes_on * config["gae_lambda"] * last
    return found


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    env = CartPole(config["envs"], seed, length=draw.uniform(0.4, 0.7))
    hidden = int(draw.choice([24, 32, 48]))
    policy, value = mlp(2, hidden), mlp(1, hidden)
    parameters = [*policy.parameters(), *value.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"], eps=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, config["iterations"])
    run = nanwatch.init(project="corpus", name="ppo-cartpole", config=config)
    for _ in range(config["iterations"]):
        seen, taken, rewards, ends = [], [], [], []
        for _ in range(config["n_steps"]):
            observation = torch.from_numpy(env.observe())
            with torch.no_grad():
                action = torch.bernoulli(policy(observation).softmax(1)[:, 1])
            reward, done = env.step(action.numpy())
            seen.append(observation)
            taken.append(action)
            rewards.append(torch.from_numpy(reward))
            ends.append(torch.from_numpy(done))
        states, actions = torch.stack(seen), torch.stack(taken)
        with torch.no_grad():
            last = torch.from_numpy(env.observe())[None]
            values = value(torch.cat([states, last])).squeeze(-1)
            before = Categorical(logits=policy(states)).log_prob(actions)
        gained = advantages(torch.stack(rewards), torch.stack(ends), values, config)
        target = (gained + values[:-1]).flatten()
        states, actions, before = states.flatten(0, 1), actions.flatten(), before.flatten()
        gained = ((gained - gained.mean()) / (gained.std() + 1e-8)).flatten()
        for _ in range(config["epochs"]):
            for rows in torch.randperm(len(states)).split(config["batch_size"]):
                choice = Categorical(logits=policy(states[rows]))
                shift = choice.log_prob(actions[rows]) - before[rows]
                ratio, edge = shift.exp(), config["clip_range"]
                clipped = ratio.clamp(1 - edge, 1 + edge)
                gain = torch.minimum(ratio * gained[rows], clipped * gained[rows]).mean()
                error = (value(states[rows]).squeeze(-1) - target[rows]).square().mean()
                loss = -gain + 0.5 * error - config["ent_coef"] * choice.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, config["max_grad_norm"])
                optimizer.step()
        schedule.step()
        explained = 1 - (target - values[:-1].flatten()).var() / (target.var() + 1e-8)
        run.log(
            reward=float(np.mean(env.lengths[-20:])) if env.lengths else 0.0,
            kl=((ratio - 1) - shift).mean().detach(),
            entropy=choice.entropy().mean().detach(),
            explained_variance=explained,
        )
    run.finish()
