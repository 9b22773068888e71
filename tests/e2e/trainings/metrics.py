"""A small real training that logs awkward numbers: NaN, infinities, -0.0, one finite point alone.

`metrics.py STEPS STEPS_PER_SECOND [NAN_FROM NAN_TO] [--until FILE]`: `answer` is the step itself,
`awkward` is NaN from one step to another but for one point in the middle. With `--until` the last
step waits for that file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

import nanwatch

parser = argparse.ArgumentParser()
parser.add_argument("steps", type=int)
parser.add_argument("pace", type=float)
parser.add_argument("nan", type=int, nargs="*")
parser.add_argument("--until", type=Path)
given = parser.parse_args()
steps, pace = given.steps, given.pace
low, high = given.nan or (steps, steps)

torch.manual_seed(0)
torch.set_num_threads(1)
run = nanwatch.init("metrics", name="metrics", config={"steps": steps})
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 1e-3)
started = time.monotonic()
for step in range(steps):
    x = torch.randn(8, 4)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    awkward = float(step % 7)
    if low <= step < high:
        awkward = 3.0 if step == (low + high) // 2 else float("nan")
    if step == high + 5:
        awkward = float("inf")
    if step == high + 6:
        awkward = float("-inf")
    run.log(answer=step, awkward=awkward)
    while step == steps - 2 and given.until and not given.until.exists():
        time.sleep(0.05)
    time.sleep(max(0.0, started + (step + 1) / pace - time.monotonic()))
print("logged", steps)
