"""Incident 002: a soft actor critic whose rewards are far too large.

Ten thermal zones of a plant are held at their set point; the price of an evaluation
episode is about 2.2 million, in raw units.  The critics chase values of that size with a
fast target network (tau 0.01), so their TD errors, and with them the gradients, are
thousands of times the clipping limit: the limit of 5.0 only hides how fast Q grows.  The
slope of Q then drowns the entropy bonus, the policy is pushed into the corners of its tanh,
and there the density of the squashed Gaussian, written as in the paper (equation 21),
is log(0): one NaN gradient, every weight of the policy is NaN, and the next
`torch.distributions.Normal` refuses its mean and ends the program.

The cure (`--healthy`): rewards x 0.001, learning rate 3e-5, tau 0.005.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal
from torch.nn.utils import clip_grad_norm_

import nanwatch


@dataclass
class Config:
    seed: int = 0
    steps: int = 4000
    lr: float = 3e-4
    tau: float = 0.01
    reward_scale: float = 1.0
    gamma: float = 0.99
    alpha: float = 0.2
    max_grad_norm: float = 5.0
    batch_size: int = 128
    hidden: int = 128
    random_steps: int = 1000
    buffer_size: int = 20_000
    log_every: int = 100
    eval_every: int = 500
    steps_per_second: float = 0.0


class ThermalPlant:
    """Ten coupled zones that drift away from their set point unless they are held there.

    The price is squared error in raw units plus the power used, summed over the zones.
    """

    zones, horizon = 10, 200

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        mixing = torch.randn(self.zones, self.zones, generator=generator) * 0.005
        self.drift = torch.eye(self.zones) * 0.98 + mixing
        self.load = torch.rand(self.zones, generator=generator) + 0.5
        self.reset()

    def reset(self) -> torch.Tensor:
        self.t = 0
        self.error = torch.randn(self.zones, generator=self.generator) * 3.0
        return self.error / 20.0

    def step(self, action: torch.Tensor) -> tuple[torch.Tensor, float, bool]:
        noise = torch.randn(self.zones, generator=self.generator) * 0.1
        self.error = self.error @ self.drift + 2.0 * action - self.load + noise
        self.error = self.error.clamp(-40.0, 40.0)
        self.t += 1
        reward = -float(self.error.square().sum() + action.square().sum())
        return self.error / 20.0, reward, self.t >= self.horizon


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


class QNetwork(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = mlp(2 * ThermalPlant.zones, hidden, 1)

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([obs, action], dim=-1))


class GaussianPolicy(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = mlp(ThermalPlant.zones, hidden, 2 * ThermalPlant.zones)

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mu, log_std = self.net(obs).chunk(2, dim=-1)
        return mu, log_std.clamp(-20.0, 2.0)

    def sample(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mu, log_std = self(obs)
        normal = Normal(mu, log_std.exp())
        pre_tanh = normal.rsample()
        action = torch.tanh(pre_tanh)
        log_prob = normal.log_prob(pre_tanh) - torch.log(1.0 - action.square())
        return action, log_prob.sum(-1, keepdim=True)


class ReplayBuffer:
    def __init__(self, size: int, zones: int) -> None:
        self.obs = torch.zeros(size, zones)
        self.action = torch.zeros(size, zones)
        self.reward = torch.zeros(size, 1)
        self.next_obs = torch.zeros(size, zones)
        self.size, self.count = size, 0

    def add(self, obs, action, reward, next_obs) -> None:
        i = self.count % self.size
        self.obs[i], self.action[i], self.reward[i, 0] = obs, action, reward
        self.next_obs[i] = next_obs
        self.count += 1

    def sample(self, batch_size: int) -> tuple[torch.Tensor, ...]:
        i = torch.randint(0, min(self.count, self.size), (batch_size,))
        return self.obs[i], self.action[i], self.reward[i], self.next_obs[i]


class SAC:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.policy = GaussianPolicy(config.hidden)
        self.q1, self.q2 = QNetwork(config.hidden), QNetwork(config.hidden)
        self.q1_target, self.q2_target = copy.deepcopy(self.q1), copy.deepcopy(self.q2)
        self.q_params = [*self.q1.parameters(), *self.q2.parameters()]
        self.q_optimizer = torch.optim.Adam(self.q_params, lr=config.lr)
        self.policy_optimizer = torch.optim.Adam(self.policy.parameters(), lr=config.lr)

    def update(self, batch: tuple[torch.Tensor, ...]) -> dict:
        cfg = self.config
        obs, action, reward, next_obs = batch
        with torch.no_grad():
            next_action, next_log_prob = self.policy.sample(next_obs)
            next_q = torch.min(
                self.q1_target(next_obs, next_action), self.q2_target(next_obs, next_action)
            )
            target = reward + cfg.gamma * (next_q - cfg.alpha * next_log_prob)
        q1, q2 = self.q1(obs, action), self.q2(obs, action)
        q_loss = F.mse_loss(q1, target) + F.mse_loss(q2, target)
        self.q_optimizer.zero_grad()
        q_loss.backward()
        q_norm = clip_grad_norm_(self.q_params, cfg.max_grad_norm)
        self.q_optimizer.step()

        new_action, log_prob = self.policy.sample(obs)
        q_new = torch.min(self.q1(obs, new_action), self.q2(obs, new_action))
        policy_loss = (cfg.alpha * log_prob - q_new).mean()
        self.policy_optimizer.zero_grad()
        policy_loss.backward()
        policy_norm = clip_grad_norm_(self.policy.parameters(), cfg.max_grad_norm)
        self.policy_optimizer.step()

        with torch.no_grad():
            for net, target_net in ((self.q1, self.q1_target), (self.q2, self.q2_target)):
                for p, p_target in zip(net.parameters(), target_net.parameters(), strict=True):
                    p_target.lerp_(p, cfg.tau)
        return {"q": q1.detach(), "loss": q_loss, "q_norm": q_norm, "policy_norm": policy_norm}


def evaluate(policy: GaussianPolicy, seed: int) -> float:
    """Return of one episode under the mean action."""
    env = ThermalPlant(torch.Generator().manual_seed(seed))
    obs, done, total = env.reset(), False, 0.0
    with torch.no_grad():
        while not done:
            mu, _ = policy(obs)
            obs, reward, done = env.step(torch.tanh(mu))
            total += reward
    return total


def train(config: Config) -> None:
    torch.manual_seed(config.seed)
    env = ThermalPlant(torch.Generator().manual_seed(config.seed))
    buffer = ReplayBuffer(config.buffer_size, env.zones)
    agent = SAC(config)
    run = nanwatch.init(
        project="sac",
        config=asdict(config),
        control=nanwatch.Control(lr=(1e-8, 1e-2), checkpoint=True, stop=True),
    )
    print(f"eval step 0 return {evaluate(agent.policy, config.seed):.4g}", flush=True)
    obs = env.reset()
    for t in range(-config.random_steps, config.steps):
        began = time.monotonic()
        if t < 0:
            action = torch.rand(env.zones) * 2.0 - 1.0
        else:
            with torch.no_grad():
                action = agent.policy.sample(obs)[0]
        next_obs, reward, done = env.step(action)
        buffer.add(obs, action, reward * config.reward_scale, next_obs)
        obs = env.reset() if done else next_obs
        if t < 0:
            continue
        batch = buffer.sample(config.batch_size)
        out = agent.update(batch)
        run.log(reward=batch[2])
        step = t + 1
        if step % config.log_every == 0:
            print(
                f"step {step} q_loss {out['loss'].item():.4g} q_mean {out['q'].mean().item():.4g} "
                f"q_norm {out['q_norm'].item():.3g} policy_norm {out['policy_norm'].item():.3g}",
                flush=True,
            )
        if step % config.eval_every == 0 or step == config.steps:
            print(f"eval step {step} return {evaluate(agent.policy, config.seed):.4g}", flush=True)
        pace(config.steps_per_second, began)


def pace(steps_per_second: float, began: float) -> None:
    """Sleep for what is left of this step, so that a person can watch."""
    if steps_per_second > 0:
        time.sleep(max(0.0, 1.0 / steps_per_second - (time.monotonic() - began)))


def parse_args() -> Config:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--steps", type=int, default=Config.steps)
    parser.add_argument("--steps-per-second", type=float, default=Config.steps_per_second)
    parser.add_argument("--healthy", action="store_true", help="the cure of the report")
    args = vars(parser.parse_args())
    if args.pop("healthy"):
        args |= {"reward_scale": 0.001, "lr": 3e-5, "tau": 0.005}
    return Config(**args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(parse_args())
