"""PPO in the manner of CleanRL on a corridor with a door: fetch the keycard at one end, open the
door at the other, a reward only then. Orthogonal init, annealed rate, GAE, clipped values, entropy
bonus, gradients clipped at 0.5. For a while almost nothing is found, then it goes fast. Nothing is
wrong."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 2.5e-3, "gamma": 0.97, "gae_lambda": 0.95, "num_envs": 16, "num_steps": 32}
CONFIG |= {"iterations": 50, "update_epochs": 4, "minibatches": 4, "clip_coef": 0.2}
CONFIG |= {"ent_coef": 0.01, "vf_coef": 0.5, "max_grad_norm": 0.5, "length": 7}


class Corridor:
    """Place on a line; left, right, wait. The card lies at 0, the door is at the end."""

    def __init__(self, copies: int, length: int, slip: float, seed: int) -> None:
        self.rng, self.length, self.slip = np.random.default_rng(seed), length, slip
        self.at = self.rng.integers(0, length, copies)
        self.card, self.age = np.zeros(copies, bool), np.zeros(copies, int)

    def observe(self) -> torch.Tensor:
        place = np.eye(self.length)[self.at]
        return torch.tensor(np.concatenate([place, self.card[:, None]], 1), dtype=torch.float32)

    def step(self, action: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        move = np.array([-1, 1, 0])[action]
        slips = self.rng.random(len(move)) < self.slip
        self.at = np.clip(self.at + np.where(slips, -move, move), 0, self.length - 1)
        self.card |= self.at == 0
        opened = self.card & (self.at == self.length - 1)
        self.age += 1
        over = opened | (self.age >= 60)
        reward = opened.astype(np.float32) - 0.01
        self.at[over] = self.rng.integers(0, self.length, over.sum())
        self.card[over], self.age[over] = False, 0
        return torch.from_numpy(reward), torch.from_numpy(over.astype(np.float32))


def layer_init(layer: nn.Linear, std: float = 2**0.5) -> nn.Linear:
    nn.init.orthogonal_(layer.weight, std)
    nn.init.zeros_(layer.bias)
    return layer


class Agent(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(inputs, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0),
        )  # fmt: skip
        self.actor = nn.Sequential(
            layer_init(nn.Linear(inputs, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, 3), std=0.01),
        )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    config["length"] = draw.choice([6, 7, 8])
    envs = Corridor(config["num_envs"], config["length"], draw.uniform(0, 0.1), seed)
    agent = Agent(config["length"] + 1)
    optimizer = torch.optim.Adam(agent.parameters(), lr=config["lr"], eps=1e-5)
    run = nanwatch.init(project="corpus", name="keycard-ppo", config=config)
    steps, copies = config["num_steps"], config["num_envs"]
    for iteration in range(config["iterations"]):
        optimizer.param_groups[0]["lr"] = (1 - iteration / config["iterations"]) * config["lr"]
        obs = torch.zeros(steps, copies, config["length"] + 1)
        actions, logprobs, rewards, dones, values = torch.zeros(5, steps, copies)
        with torch.no_grad():
            for step in range(steps):
                obs[step] = envs.observe()
                dist = Categorical(logits=agent.actor(obs[step]))
                action = dist.sample()
                values[step] = agent.critic(obs[step]).flatten()
                actions[step], logprobs[step] = action, dist.log_prob(action)
                rewards[step], dones[step] = envs.step(action.numpy())
            nextvalues, lastgaelam = agent.critic(envs.observe()).flatten(), 0.0
            advantages = torch.zeros_like(rewards)
            for t in reversed(range(steps)):
                alive = 1 - dones[t]
                delta = rewards[t] + config["gamma"] * nextvalues * alive - values[t]
                lastgaelam = delta + config["gamma"] * config["gae_lambda"] * alive * lastgaelam
                advantages[t], nextvalues = lastgaelam, values[t]
            returns = advantages + values
        b_obs, b_values = obs.flatten(0, 1), values.flatten()
        b_actions, b_logprobs = actions.flatten(), logprobs.flatten()
        b_adv, b_returns = advantages.flatten(), returns.flatten()
        for _ in range(config["update_epochs"]):
            for mb in torch.randperm(len(b_obs)).chunk(config["minibatches"]):
                dist = Categorical(logits=agent.actor(b_obs[mb]))
                logratio = dist.log_prob(b_actions[mb]) - b_logprobs[mb]
                ratio = logratio.exp()
                approx_kl = ((ratio - 1) - logratio).mean().detach()
                adv = (b_adv[mb] - b_adv[mb].mean()) / (b_adv[mb].std() + 1e-8)
                clip = config["clip_coef"]
                pg_loss = torch.max(-adv * ratio, -adv * ratio.clamp(1 - clip, 1 + clip)).mean()
                newvalue = agent.critic(b_obs[mb]).flatten()
                v_clipped = b_values[mb] + (newvalue - b_values[mb]).clamp(-clip, clip)
                v_loss = torch.max(
                    (newvalue - b_returns[mb]) ** 2, (v_clipped - b_returns[mb]) ** 2
                )
                entropy = dist.entropy().mean()
                loss = pg_loss - config["ent_coef"] * entropy
                loss = loss + config["vf_coef"] * 0.5 * v_loss.mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), config["max_grad_norm"])
                optimizer.step()
        run.log(reward=rewards.mean(), entropy=entropy.detach(), kl=approx_kl)
    run.finish()
