"""Stable-Baselines3: one line in `learn`."""

from stable_baselines3 import SAC

import nanwatch
from nanwatch.integrations.stable_baselines3 import NanwatchCallback

model = SAC(
    "MlpPolicy",
    "Pendulum-v1",
    policy_kwargs={"net_arch": [32, 32]},
    learning_starts=100,
    batch_size=32,
    device="cpu",
)
control = nanwatch.Control(lr_factor=(1e-3, 1.0), checkpoint=True, stop=True)
model.learn(500, callback=NanwatchCallback(project="sb3", control=control), log_interval=1)
