"""PPO switches the traffic lights of a crossing. Somebody typed clip_range 2.0 for 0.2, so nothing
holds the ratio back in twenty epochs over each rollout, and there is no entropy bonus: within some
iterations the policy knows one answer and never tries another, the queues of the other streets grow
to their end. Cure: clip_range 0.2, fewer epochs, ent_coef 0.01, target_kl 0.02."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse", seeds=3)
CONFIG = {"lr": 1e-3, "gamma": 0.95, "gae_lambda": 0.9, "clip_range": 2.0, "n_epochs": 20}
CONFIG |= {"ent_coef": 0.0, "n_steps": 16, "n_envs": 12, "iterations": 40, "longest": 20}


class Crossing:
    """Queues of four streets; each action gives green to one. Reward: minus the cars that wait."""

    def __init__(self, n, longest, rng):
        self.n, self.longest, self.rng = n, longest, rng
        self.rate = rng.uniform(0.1, 0.7, (n, 4))
        self.queue = rng.integers(0, 5, (n, 4)).astype(np.float32)

    def observe(self):
        return torch.from_numpy(np.concatenate([self.queue / 10, self.rate], 1)).float()

    def step(self, green):
        self.queue = self.queue + self.rng.poisson(self.rate)
        self.queue[np.arange(self.n), green] -= 3
        self.queue = np.clip(self.queue, 0, self.longest).astype(np.float32)
        change = self.rng.random(self.n) < 0.02  # another time of the day
        self.rate[change] = self.rng.uniform(0.1, 0.7, (change.sum(), 4))
        return torch.from_numpy(-self.queue.sum(1) / 10)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed}
    env = Crossing(config["n_envs"], config["longest"], rng)
    trunk = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    net = nn.ModuleDict({"trunk": trunk, "pi": nn.Linear(64, 4), "v": nn.Linear(64, 1)})
    optimizer = torch.optim.Adam(net.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="crossing-ppo", config=config)

    def forward(obs):
        h = net["trunk"](obs)
        return Categorical(logits=net["pi"](h)), net["v"](h).squeeze(-1)

    for _ in range(config["iterations"]):
        obs, act, logp, rew, val = [], [], [], [], []
        with torch.no_grad():
            for _ in range(config["n_steps"]):
                state = env.observe()
                dist, value = forward(state)
                action = dist.sample()
                obs.append(state)
                act.append(action)
                logp.append(dist.log_prob(action))
                val.append(value)
                rew.append(env.step(action.numpy()))
            last, gae, adv = forward(env.observe())[1], torch.zeros(config["n_envs"]), []
            for t in reversed(range(config["n_steps"])):
                delta = rew[t] + config["gamma"] * last - val[t]
                gae = delta + config["gamma"] * config["gae_lambda"] * gae
                adv.insert(0, gae)
                last = val[t]
        obs, act, logp, val = torch.cat(obs), torch.cat(act), torch.cat(logp), torch.cat(val)
        adv = torch.cat(adv)
        returns = adv + val
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        for _ in range(config["n_epochs"]):
            dist, value = forward(obs)
            ratio = (dist.log_prob(act) - logp).exp()
            clipped = ratio.clamp(1 - config["clip_range"], 1 + config["clip_range"])
            pi_loss = -torch.min(ratio * adv, clipped * adv).mean()
            entropy = dist.entropy().mean()
            v_loss = (value - returns).square().mean()
            loss = pi_loss + 0.5 * v_loss - config["ent_coef"] * entropy
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(entropy=entropy.detach())
        run.log(reward=torch.cat(rew).mean())
    run.finish()
