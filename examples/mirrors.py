"""A script that logs to TensorBoard and wandb already: one line each."""

import torch
import wandb
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import nanwatch
import nanwatch.integrations.tensorboard
import nanwatch.integrations.wandb

nanwatch.init(project="mirrors")
nanwatch.integrations.tensorboard.mirror()
nanwatch.integrations.wandb.mirror()

model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.05)
with SummaryWriter("runs") as writer, wandb.init(project="mirrors", mode="offline") as run:
    for step in range(100):
        batch = torch.randn(16, 8)
        loss = (model(batch).squeeze(1) - batch.mean(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        writer.add_scalar("val/error", loss.sqrt(), step)
        run.log({"weights/largest": model.weight.detach().abs().max()}, step=step)
