"""PPO moves a two-jointed arm to a point: Gaussian policy with a learnt spread that narrows,
observations normalised by running statistics, GAE, minibatches, an early stop on KL, a rate that
falls linearly. The entropy falls below zero, as entropies of densities may. Nothing is wrong."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "gamma": 0.9, "gae_lambda": 0.95, "clip_range": 0.2, "epochs": 6}
CONFIG |= {"minibatch": 128, "n_steps": 20, "n_envs": 24, "iterations": 60, "target_kl": 0.02}
CONFIG |= {"ent_coef": 0.0, "max_grad_norm": 0.5, "log_std_init": -0.3}


class Arm:
    """Angles of two joints; an action turns them; reward: minus the distance of hand and point."""

    def __init__(self, n):
        self.n, self.angle = n, 3.14 * (2 * torch.rand(n, 2) - 1)
        self.point = self.fresh(n)

    def fresh(self, n):
        way, far = 6.28 * torch.rand(n), 0.4 + 1.4 * torch.rand(n)
        return torch.stack([far * way.cos(), far * way.sin()], 1)

    def hand(self):
        first, both = self.angle[:, 0], self.angle.sum(1)
        return torch.stack([first.cos() + both.cos(), first.sin() + both.sin()], 1)

    def observe(self):
        hand = self.hand()
        return torch.cat([self.angle.cos(), self.angle.sin(), hand, self.point - hand], 1)

    def step(self, action):
        self.angle = self.angle + 0.4 * action.clamp(-1, 1)
        reward = -(self.hand() - self.point).norm(dim=1)
        new = torch.rand(self.n) < 0.05
        self.point[new] = self.fresh(int(new.sum()))
        return reward


class Normalised:
    def __init__(self, width):
        self.mean, self.var, self.count = torch.zeros(width), torch.ones(width), 1e-4

    def __call__(self, x):
        total = self.count + len(x)
        shift = x.mean(0) - self.mean
        self.var = (self.var * self.count + x.var(0) * len(x)
                    + shift**2 * self.count * len(x) / total) / total  # fmt: skip
        self.mean, self.count = self.mean + shift * len(x) / total, total
        return ((x - self.mean) / (self.var + 1e-8).sqrt()).clamp(-5, 5)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    env, norm = Arm(config["n_envs"]), Normalised(8)
    pi = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    v = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    with torch.no_grad():
        pi[-1].weight.mul_(0.01)
    log_std = nn.Parameter(torch.full((2,), config["log_std_init"]))
    parameters = [*pi.parameters(), *v.parameters(), log_std]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"], eps=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, config["iterations"])
    run = nanwatch.init(project="corpus", name="arm-ppo", config=config)
    for _ in range(config["iterations"]):
        obs, act, rew, val = [], [], [], []
        with torch.no_grad():
            for _ in range(config["n_steps"]):
                obs.append(norm(env.observe()))
                act.append(Normal(pi(obs[-1]), log_std.exp()).sample())
                val.append(v(obs[-1]).squeeze(1))
                rew.append(env.step(act[-1]))
            following, gae, adv = v(norm(env.observe())).squeeze(1), 0.0, []
            for t in reversed(range(config["n_steps"])):
                gae = (rew[t] + config["gamma"] * following - val[t]
                       + config["gamma"] * config["gae_lambda"] * gae)  # fmt: skip
                adv.insert(0, gae)
                following = val[t]
            obs, act, adv = torch.cat(obs), torch.cat(act), torch.cat(adv)
            returns = adv + torch.cat(val)
            old = Normal(pi(obs), log_std.exp()).log_prob(act).sum(1)
        kl = 0.0
        for _ in range(config["epochs"]):
            for rows in torch.randperm(len(obs)).split(config["minibatch"]):
                dist = Normal(pi(obs[rows]), log_std.exp())
                change = dist.log_prob(act[rows]).sum(1) - old[rows]
                ratio, gain = change.exp(), adv[rows]
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                edge = config["clip_range"]
                pi_loss = -torch.min(ratio * gain, ratio.clamp(1 - edge, 1 + edge) * gain).mean()
                v_loss = (v(obs[rows]).squeeze(1) - returns[rows]).square().mean()
                loss = pi_loss + 0.5 * v_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, config["max_grad_norm"])
                optimizer.step()
                kl = float((ratio - 1 - change).mean())
            if kl > 1.5 * config["target_kl"]:
                break
        schedule.step()
        run.log(reward=torch.cat(rew).mean(), entropy=dist.entropy().sum(1).mean().detach(), kl=kl)
    run.finish()
