"""IMPALA in small: actors follow a copy of the policy that is up to eight updates old, the learner
corrects by V-trace. Rewards are a tenth, the loss is a sum over the batch, as in the paper."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import CartPole

ABOUT = About(family="rl-on-policy", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "gamma": 0.97, "entropy_cost": 0.01, "value_cost": 0.5, "max_norm": 40.0,
          "envs": 16, "unroll": 8, "refresh": 8, "updates": 600}  # fmt: skip


class Agent(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, hidden), nn.Tanh())
        self.policy, self.value = nn.Linear(hidden, 2), nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.body(x)
        return self.policy(h).log_softmax(-1), self.value(h)[..., 0]


def vtrace(value, after, reward, going, ratio) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets of the values and advantages, [time, envs]."""
    rho = ratio.clamp(max=1)
    following = torch.cat([value[1:], after[None]])
    delta = rho * (reward + CONFIG["gamma"] * going * following - value)
    extra, found = torch.zeros_like(after), []
    for t in reversed(range(len(delta))):
        extra = delta[t] + CONFIG["gamma"] * going[t] * rho[t] * extra
        found.append(value[t] + extra)
    target = torch.stack(found[::-1])
    ahead = torch.cat([target[1:], after[None]])
    return target, rho * (reward + CONFIG["gamma"] * going * ahead - value)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="cartpole-vtrace", config=config)
    env = CartPole(CONFIG["envs"], seed, length=draw.uniform(0.4, 0.6))
    agent, actor = Agent(hidden), Agent(hidden).requires_grad_(False)
    optimizer = torch.optim.RMSprop(agent.parameters(), lr=lr, alpha=0.99, eps=1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, CONFIG["updates"])
    for update in range(CONFIG["updates"]):
        if update % CONFIG["refresh"] == 0:
            actor.load_state_dict(agent.state_dict())
        steps = []
        for _ in range(CONFIG["unroll"]):
            seen = torch.from_numpy(env.observe())
            with torch.no_grad():
                old = actor(seen)[0]
            action = old.exp().multinomial(1)
            reward, done = env.step(action[:, 0].numpy())
            behaviour = old.gather(1, action)[:, 0]
            steps.append(
                (seen, action, behaviour, torch.from_numpy(reward / 10), torch.from_numpy(1 - done))
            )
        seen, action, behaviour, reward, going = (torch.stack(x) for x in zip(*steps, strict=True))
        logp, value = agent(seen)
        taken = logp.gather(2, action)[..., 0]
        with torch.no_grad():
            after = agent(torch.from_numpy(env.observe()))[1]
            ratio = (taken - behaviour).exp()
            target, advantage = vtrace(value, after, reward, going, ratio)
        entropy = -(logp.exp() * logp).sum(2)
        loss = -(taken * advantage).sum() - CONFIG["entropy_cost"] * entropy.sum()
        loss = loss + CONFIG["value_cost"] * (value - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        recent = env.lengths[16:][-30:] or [0]
        run.log(reward=sum(recent) / len(recent), entropy=entropy.mean())
    run.finish()
