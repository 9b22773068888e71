"""A2C finds its way through a small room: first the key, then the door, nothing is paid on the way.
For a while hardly any reward comes, then the policy gets the knack, entropy falls and the loss of
the critic rises, since there is something to predict. RMSprop, five steps, entropy bonus. Nothing
is wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "gamma": 0.95, "n_steps": 5, "n_envs": 24, "ent_coef": 0.02, "size": 4}
CONFIG |= {"max_grad_norm": 0.5, "updates": 1200, "limit": 40}
MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Room:
    def __init__(self, n, size, limit):
        self.n, self.size, self.limit = n, size, limit
        self.place, self.key = torch.randint(0, size, (n, 2)), torch.randint(0, size, (n, 2))
        self.has, self.age = torch.zeros(n, dtype=torch.bool), torch.zeros(n)

    def observe(self):
        here = F.one_hot(self.place, self.size).flatten(1)
        key = F.one_hot(self.key, self.size).flatten(1) * ~self.has[:, None]
        return torch.cat([here, key, self.has[:, None]], 1).float()

    def step(self, action):
        self.place = (self.place + MOVES[action]).clamp(0, self.size - 1)
        self.has |= (self.place == self.key).all(1)
        out = self.has & (self.place == self.size - 1).all(1)
        self.age += 1
        done = out | (self.age >= self.limit)
        n = int(done.sum())
        self.place[done] = torch.randint(0, self.size, (n, 2))
        self.key[done] = torch.randint(0, self.size, (n, 2))
        self.has[done], self.age[done] = False, 0
        return out.float(), done.float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    env = Room(config["n_envs"], config["size"], config["limit"])
    trunk = nn.Sequential(nn.Linear(4 * config["size"] + 1, 64), nn.Tanh(), nn.Linear(64, 64),
                          nn.Tanh())  # fmt: skip
    agent = nn.ModuleDict({"trunk": trunk, "pi": nn.Linear(64, 4), "v": nn.Linear(64, 1)})
    optimizer = torch.optim.RMSprop(agent.parameters(), lr=config["lr"], alpha=0.99, eps=1e-5)
    run = nanwatch.init(project="corpus", name="key-and-door", config=config)

    def forward(obs):
        h = trunk(obs)
        return Categorical(logits=agent["pi"](h)), agent["v"](h).squeeze(1)

    paid = 0.0
    for update in range(config["updates"]):
        logp, val, ent, rew, end = [], [], [], [], []
        for _ in range(config["n_steps"]):
            dist, value = forward(env.observe())
            action = dist.sample()
            reward, done = env.step(action)
            logp.append(dist.log_prob(action))
            val.append(value)
            ent.append(dist.entropy())
            rew.append(reward)
            end.append(done)
        with torch.no_grad():
            ret, returns = forward(env.observe())[1], []
            for reward, done in zip(reversed(rew), reversed(end), strict=True):
                ret = reward + config["gamma"] * (1 - done) * ret
                returns.insert(0, ret)
        returns, val = torch.stack(returns), torch.stack(val)
        gain, entropy = (returns - val).detach(), torch.stack(ent).mean()
        pi_loss = -(torch.stack(logp) * gain).mean()
        loss = pi_loss + 0.5 * F.mse_loss(val, returns) - config["ent_coef"] * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), config["max_grad_norm"])
        optimizer.step()
        paid += float(torch.stack(rew).mean())
        if update % 10 == 9:
            run.log(reward=paid / 10, entropy=entropy.detach())
            paid = 0.0
    run.finish()
