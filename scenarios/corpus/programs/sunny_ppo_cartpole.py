"""PPO balances poles with everything that belongs to it: advantages normalised, a clipped ratio,
entropy bonus, clipping at 0.5, a rate that decays to nothing, and epochs that end early when the KL
is large."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "gamma": 0.98, "lam": 0.95, "envs": 16, "rollout": 32, "epochs": 4}
CONFIG |= {
    "minibatch": 128,
    "clip_range": 0.2,
    "entropy_bonus": 0.01,
    "target_kl": 0.03,
    "updates": 50,
}


class Agent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(
            nn.Linear(4, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 2)
        )
        self.critic = nn.Sequential(
            nn.Linear(4, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 1)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.distributions.Categorical, torch.Tensor]:
        return torch.distributions.Categorical(logits=self.actor(x)), self.critic(x).squeeze(-1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    env, agent = CartPole(config["envs"], seed, length=draw.uniform(0.4, 0.6)), Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=config["lr"], eps=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, config["updates"])
    run = nanwatch.init(project="corpus", name="ppo-cartpole", config=config)
    for _ in range(config["updates"]):
        seen, acts, logs, values, rewards, ends = [], [], [], [], [], []
        with torch.no_grad():
            for _ in range(config["rollout"]):
                x = torch.from_numpy(env.observe())
                policy, value = agent(x)
                act = policy.sample()
                reward, end = (torch.from_numpy(part) for part in env.step(act.numpy()))
                seen.append(x), acts.append(act), logs.append(policy.log_prob(act))
                values.append(value), rewards.append(reward), ends.append(end)
            after = agent(torch.from_numpy(env.observe()))[1]
        gain, gains = torch.zeros(config["envs"]), []
        for i in reversed(range(config["rollout"])):
            going = 1 - ends[i]
            delta = rewards[i] + config["gamma"] * going * after - values[i]
            gain = delta + config["gamma"] * config["lam"] * going * gain
            after = values[i]
            gains.insert(0, gain)
        x, act, old, advantage = torch.cat(seen), torch.cat(acts), torch.cat(logs), torch.cat(gains)
        wanted = advantage + torch.cat(values)
        kl = 0.0
        for _ in range(config["epochs"]):
            for rows in torch.randperm(len(x)).split(config["minibatch"]):
                policy, value = agent(x[rows])
                change = policy.log_prob(act[rows]) - old[rows]
                ratio, a = change.exp(), advantage[rows]
                a = (a - a.mean()) / (a.std() + 1e-8)
                held = ratio.clamp(1 - config["clip_range"], 1 + config["clip_range"])
                loss = -torch.min(ratio * a, held * a).mean()
                loss = loss + 0.5 * F.mse_loss(value, wanted[rows])
                entropy = policy.entropy().mean()
                optimizer.zero_grad()
                (loss - config["entropy_bonus"] * entropy).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
                kl = float((change.detach().exp() - 1 - change.detach()).mean())
            if kl > config["target_kl"]:
                break
        schedule.step()
        lengths, env.lengths = env.lengths, []
        if lengths:
            run.log(reward=float(np.mean(lengths)), entropy=entropy.detach(), kl=kl)
    run.finish()
