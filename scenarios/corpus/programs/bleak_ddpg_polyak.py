"""DDPG moves an arm of eight joints to rest. The soft update of the target networks was taken from
a page where the number 0.995 says how much of the old target is kept; here it is how much of the
new net is taken in: targets are the online nets. Four updates a step and a rate of 0.003 do the
rest: the actor goes where the critic is wrong, Q rises far above zero, though no reward is
positive. Cure: tau = 0.005."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About
from scenarios.corpus.programs._environments import Replay

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=3)
CONFIG = {"lr": 3e-3, "gamma": 0.99, "batch_size": 64, "tau": 0.995, "envs": 4, "updates": 1600}
CONFIG |= {"noise": 0.1, "hidden": 64, "updates_per_step": 4, "buffer": 3000, "joints": 8}


class Arm:
    """Joints that pull at each other; a torque in [-1, 1] for each; to be brought to zero."""

    def __init__(self, copies: int, seed: int, joints: int) -> None:
        self.rng, self.copies, self.joints = np.random.default_rng(seed), copies, joints
        self.pull = 0.1 * self.rng.normal(size=(joints, joints)) / joints**0.5
        self.angle = self.rng.uniform(-1, 1, (copies, joints))
        self.age = self.rng.integers(0, 50, copies)

    def observe(self) -> np.ndarray:
        return self.angle.astype(np.float32)

    def step(self, torque: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.angle = 0.98 * self.angle + self.angle @ self.pull + 0.1 * torque
        self.angle = (self.angle + self.rng.normal(0, 0.01, self.angle.shape)).clip(-2, 2)
        reward = -np.square(self.angle).mean(1)
        self.age += 1
        over = self.age >= 50
        self.angle[over] = self.rng.uniform(-1, 1, (int(over.sum()), self.joints))
        self.age[over] = 0
        return reward.astype(np.float32), np.zeros(self.copies, np.float32)


def mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    joints = config["joints"]
    env = Arm(config["envs"], seed, joints)
    actor = nn.Sequential(mlp(joints, joints, config["hidden"]), nn.Tanh())
    critic = mlp(2 * joints, 1, config["hidden"])
    actor_target, critic_target = copy.deepcopy(actor), copy.deepcopy(critic)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config["lr"])
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config["lr"])
    replay = Replay(config["buffer"], joints, joints, seed)
    run = nanwatch.init(project="corpus", name="arm-ddpg", config=config)
    run.watch(actor=actor, critic=critic)
    for update in range(-50, config["updates"]):
        if update < 0 or update % config["updates_per_step"] == 0:
            seen = env.observe()
            with torch.no_grad():
                action = actor(torch.from_numpy(seen)).numpy()
            action = (action + config["noise"] * draw.normal(size=action.shape)).clip(-1, 1)
            reward, done = env.step(action)
            replay.add(seen, action.astype(np.float32), reward, env.observe(), done)
        if update < 0:
            continue
        state, taken, paid, later, over = map(torch.from_numpy, replay.sample(config["batch_size"]))
        with torch.no_grad():
            best = critic_target(torch.cat([later, actor_target(later)], 1))
            target = paid + config["gamma"] * (1 - over) * best
        q = critic(torch.cat([state, taken], 1))
        critic_loss = F.mse_loss(q, target)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        actor_loss = -critic(torch.cat([state, actor(state)], 1)).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        with torch.no_grad():
            for old, new in ((actor_target, actor), (critic_target, critic)):
                for slow, fast in zip(old.parameters(), new.parameters(), strict=True):
                    slow.lerp_(fast, config["tau"])
        run.log(reward=float(reward.mean()), q=q.detach())
    run.finish()
