"""torchrl: one line for the Trainer."""

import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymEnv
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import A2CLoss
from torchrl.objectives.value import GAE
from torchrl.trainers import Trainer

from nanwatch.integrations.torchrl import NanwatchHook

environment = GymEnv("Pendulum-v1", device="cpu")
layers = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 2), NormalParamExtractor())
actor = ProbabilisticActor(
    TensorDictModule(layers, in_keys=["observation"], out_keys=["loc", "scale"]),
    in_keys=["loc", "scale"],
    distribution_class=TanhNormal,
    distribution_kwargs={"low": -2.0, "high": 2.0},
    return_log_prob=True,
)
critic = ValueOperator(nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1)))
loss = A2CLoss(actor, critic)
trainer = Trainer(
    collector=Collector(environment, actor, frames_per_batch=64, total_frames=512),
    total_frames=512,
    frame_skip=1,
    optim_steps_per_batch=4,
    loss_module=loss,
    optimizer=torch.optim.Adam(loss.parameters(), 1e-3),
    clip_norm=0.5,
    progress_bar=False,
)
trainer.register_op("batch_process", GAE(gamma=0.99, lmbda=0.95, value_network=critic))
NanwatchHook(project="torchrl").register(trainer)
trainer.train()
