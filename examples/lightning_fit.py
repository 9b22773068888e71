"""Lightning: one line in the Trainer."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nanwatch
from nanwatch.integrations.lightning import NanwatchCallback


class Regression(pl.LightningModule):
    """Learns the mean of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss = (self.net(batch[0]).squeeze(1) - batch[0].mean(1)).square().mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        self.log("val_loss", (self.net(batch[0]).squeeze(1) - batch[0].mean(1)).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


data = DataLoader(TensorDataset(torch.randn(512, 8)), batch_size=16)
control = nanwatch.Control(lr_factor=(1e-3, 1.0), checkpoint=True, stop=True)
trainer = pl.Trainer(
    max_epochs=3,
    accelerator="cpu",
    gradient_clip_val=1.0,
    logger=False,
    enable_checkpointing=False,
    callbacks=[NanwatchCallback(project="lightning", control=control)],
)
trainer.fit(Regression(), data, data)
