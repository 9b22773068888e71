"""A2C plays a rhythm game in which every note hit in a row doubles the bonus. As long as it plays
badly a step pays a few points, a lucky row pays hundreds; nobody scaled the rewards or the
advantages or clipped the norm, so one row makes the policy all but certain, and the entropy that is
written by hand (p * log p) is NaN once a probability is zero. Cure: scaled rewards, max_grad_norm,
log_softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="reward-scale", seeds=3)
CONFIG = {"lr": 2e-4, "gamma": 0.9, "n_steps": 5, "n_envs": 16, "value_coef": 0.5}
CONFIG |= {"ent_coef": 0.01, "points": 4.0, "longest": 8, "updates": 1500}


class Rhythm:
    """Notes of four kinds, seen as noisy brightness of lanes; state has the combo as well."""

    def __init__(self, games, config):
        self.games, self.points, self.longest = games, config["points"], config["longest"]
        self.combo = torch.zeros(games, dtype=torch.long)
        self.next()

    def next(self):
        self.note = torch.randint(0, 4, (self.games,))
        lanes = F.one_hot(self.note, 4).float() + 0.25 * torch.randn(self.games, 4)
        self.obs = torch.cat([lanes, self.combo.unsqueeze(1) / self.longest], 1)

    def step(self, key):
        hit = key == self.note
        self.combo = torch.where(hit, (self.combo + 1).clamp(max=self.longest), 0)
        reward = self.points * hit * 2.0**self.combo
        self.next()
        return reward


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(5, 64), nn.LeakyReLU(), nn.Linear(64, 64), nn.LeakyReLU()
        )
        self.policy, self.value = nn.Linear(64, 4), nn.Linear(64, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.policy(h).softmax(-1), self.value(h).squeeze(-1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    env, net = Rhythm(config["n_envs"], config), Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="rhythm-a2c", config=config)
    for _ in range(config["updates"]):
        log_probs, values, rewards, entropies = [], [], [], []
        for _ in range(config["n_steps"]):
            prob, value = net(env.obs)
            action = torch.multinomial(prob, 1).squeeze(1)
            rewards.append(env.step(action))
            log_probs.append(prob.gather(1, action[:, None]).squeeze(1).log())
            values.append(value)
            entropies.append(-(prob * prob.log()).sum(1))
        with torch.no_grad():
            ret = net(env.obs)[1]
        returns = []
        for reward in reversed(rewards):
            ret = reward + config["gamma"] * ret
            returns.insert(0, ret)
        returns, values = torch.stack(returns), torch.stack(values)
        advantage = (returns - values).detach()
        entropy = torch.stack(entropies).mean()
        policy_loss = -(torch.stack(log_probs) * advantage).mean()
        value_loss = F.mse_loss(values, returns)
        loss = policy_loss + config["value_coef"] * value_loss - config["ent_coef"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=torch.stack(rewards).mean(), entropy=entropy.detach())
    run.finish()
