"""Incident 004: dark experience replay (DER++) whose stored logits run away with the network.

A stream of tasks, each with its own classes (Gaussian clusters under a rotation of the task),
is learnt by one network with one head over all classes.  A reservoir keeps inputs, labels and
the logits the network gave when it saw them; once there are old tasks, replay pulls the network
back to those logits (alpha per old task, squared error) and to the labels (beta).

The features behind BatchNorm have a fixed size, so replay is a linear feedback loop on the head
with a gain of learning rate x alpha x old tasks.  Beyond the edge each step overshoots the
stored logits, and what the network says then is stored in its turn: it is the target of later
steps, a little larger each time.  The reservoir is exchanged slowly, so logits and gradients
grow over hundreds of steps, faster with each task, and nothing clips them.  They overflow,
logits that are not finite are stored like any others, and from then on every batch is NaN and
accuracy is at chance, while training goes on.

The cure (`--healthy`): clipping at 1.0, learning rate 0.005 with cosine decay in each task
(floor 10 %), stored logits checked and clamped to +-10, BatchNorm frozen after the first task,
a small replay weight.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch


@dataclass
class Config:
    seed: int = 0
    steps: int = 1600
    tasks: int = 8
    classes_per_task: int = 2
    lr: float = 0.1
    momentum: float = 0.9
    use_lr_decay: bool = False
    max_grad_norm: float | None = None
    stored_logit_limit: float | None = None
    freeze_batchnorm: bool = False
    alpha: float = 1.2
    beta: float = 0.5
    buffer_size: int = 500
    batch_size: int = 32
    inputs: int = 32
    hidden: int = 256
    label_noise: float = 0.1
    log_every: int = 50
    steps_per_second: float = 0.0


class TaskStream:
    """Every class is two Gaussian clusters; every task turns space by a rotation of its own."""

    def __init__(self, config: Config) -> None:
        self.config = config
        n, dim = config.tasks * config.classes_per_task, config.inputs
        self.centres = torch.randn(n, 2, dim)
        self.rotations = torch.linalg.qr(torch.randn(config.tasks, dim, dim))[0]

    def draw(
        self, task: int, n: int, label_noise: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        per_task = self.config.classes_per_task
        labels = task * per_task + torch.randint(0, per_task, (n,))
        centres = self.centres[labels, torch.randint(0, 2, (n,))]
        noisy = centres + torch.randn(n, self.config.inputs)
        wrong = task * per_task + torch.randint(0, per_task, (n,))
        labels = torch.where(torch.rand(n) < label_noise, wrong, labels)
        return noisy @ self.rotations[task], labels


class ReservoirBuffer:
    """Every example seen so far is equally likely to be in it."""

    def __init__(self, config: Config) -> None:
        size, self.limit = config.buffer_size, config.stored_logit_limit
        self.inputs = torch.zeros(size, config.inputs)
        self.labels = torch.zeros(size, dtype=torch.long)
        self.logits = torch.zeros(size, config.tasks * config.classes_per_task)
        self.size, self.seen = size, 0

    def store(self, inputs: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor) -> None:
        if self.limit is not None:
            finite = torch.isfinite(logits).all(dim=1)
            inputs, labels, logits = inputs[finite], labels[finite], logits[finite]
            logits = logits.clamp(-self.limit, self.limit)
        for x, y, z in zip(inputs, labels, logits, strict=True):
            self.seen += 1
            i = self.seen - 1 if self.seen <= self.size else int(torch.randint(0, self.seen, ()))
            if i < self.size:
                self.inputs[i], self.labels[i], self.logits[i] = x, y, z

    def sample(self, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        i = torch.randint(0, min(self.seen, self.size), (n,))
        return self.inputs[i], self.labels[i], self.logits[i]


def network(config: Config) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(config.inputs, config.hidden),
        nn.BatchNorm1d(config.hidden, affine=False),
        nn.ReLU(),
        nn.Linear(config.hidden, config.hidden),
        nn.BatchNorm1d(config.hidden, affine=False),
        nn.ReLU(),
        nn.Linear(config.hidden, config.tasks * config.classes_per_task),
    )


class Learner:
    """DER++: one step learns from the stream and from the buffer, then stores its outputs."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.net = network(config)
        self.buffer = ReservoirBuffer(config)
        self.task = 0
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr=config.lr, momentum=config.momentum
        )

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        cfg = self.config
        loss = F.cross_entropy(self.net(inputs), labels)
        if self.task > 0:
            old_inputs, _, old_logits = self.buffer.sample(cfg.batch_size)
            weight = cfg.alpha * self.task  # every old task counts as much as the first did
            loss = loss + weight * F.mse_loss(self.net(old_inputs), old_logits)
            old_inputs, old_labels, _ = self.buffer.sample(cfg.batch_size)
            loss = loss + cfg.beta * F.cross_entropy(self.net(old_inputs), old_labels)
        return loss

    def observe(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
        """One step; the loss and the logits that were stored."""
        loss = self.loss(inputs, labels)
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.max_grad_norm is not None:
            clip_grad_norm_(self.net.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        with torch.no_grad():
            logits = self.net(inputs)
        self.buffer.store(inputs, labels, logits)
        return loss.item(), logits

    def schedule(self, progress: float) -> None:
        """Cosine decay of the learning rate within each task, down to a tenth."""
        if self.config.use_lr_decay:
            factor = max(0.1, 0.5 * (1.0 + math.cos(math.pi * progress)))
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.lr * factor

    def end_task(self) -> None:
        self.task += 1
        if self.config.freeze_batchnorm:
            for module in self.net.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.eval()

    @torch.no_grad()
    def accuracy(self, inputs: torch.Tensor, labels: torch.Tensor) -> float:
        modes = {module: module.training for module in self.net.modules()}
        self.net.eval()
        right = (self.net(inputs).argmax(dim=1) == labels).float().mean().item()
        for module, mode in modes.items():
            module.training = mode
        return right


def train(config: Config) -> None:
    torch.manual_seed(config.seed)
    stream = TaskStream(config)
    learner = Learner(config)
    tests = [stream.draw(task, 300) for task in range(config.tasks)]
    nanwatch.init(
        project="replay",
        config=asdict(config),
        control=nanwatch.Control(lr=(1e-8, 1.0), checkpoint=True, stop=True),
    )
    per_task, detected = math.ceil(config.steps / config.tasks), False
    for step in range(config.steps):
        began = time.monotonic()
        task = step // per_task
        learner.schedule(step % per_task / per_task)
        batch = stream.draw(task, config.batch_size, config.label_noise)
        loss, logits = learner.observe(*batch)
        if not (detected or torch.isfinite(logits).all()):
            detected = True
            print(f"Step {step + 1}: NaN detected! output max {logits.max():.3g}", flush=True)
        if (step + 1) % config.log_every == 0:
            peak = logits.abs().max().item()
            print(f"step {step + 1} task {task} loss {loss:.4g} logit_max {peak:.3g}", flush=True)
        if (step + 1) % per_task == 0 or step + 1 == config.steps:
            learner.end_task()
            scores = [learner.accuracy(*test) for test in tests[: task + 1]]
            shown = " ".join(f"{100 * score:.1f}" for score in scores)
            mean = 100 * sum(scores) / len(scores)
            print(f"task {task} done: Class-IL {mean:.2f}% ({shown})", flush=True)
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
        args |= {"lr": 0.005, "use_lr_decay": True, "alpha": 0.1, "max_grad_norm": 1.0}
        args |= {"stored_logit_limit": 10.0, "freeze_batchnorm": True}
    return Config(**args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(parse_args())
