"""accelerate: one line in the Accelerator."""

import torch
from accelerate import Accelerator
from torch import nn

from nanwatch.integrations.accelerate import NanwatchTracker

accelerator = Accelerator(
    cpu=True,
    gradient_accumulation_steps=2,
    log_with=NanwatchTracker(project="accelerate"),
)
accelerator.init_trackers("accelerate", config={"lr": 1e-2})
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
model, optimizer = accelerator.prepare(model, optimizer)
for step in range(100):
    batch = torch.randn(16, 8)
    with accelerator.accumulate(model):
        loss = (model(batch).squeeze(1) - batch.mean(1)).square().mean()
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    accelerator.log({"val/error": float(loss.detach().sqrt())}, step=step)
accelerator.end_training()
