"""A convolutional VAE on silhouettes of shoes: Bernoulli likelihood summed over pixels, the KL term
warmed up over four epochs, Adamax, samples now and then. The loss is in the hundreds, and rises a
little while the weight of the KL grows. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vae", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 32, "epochs": 14, "warmup_epochs": 4, "latent": 8, "width": 12}
CONFIG |= {"size": 16}


def shoes(count: int, size: int, blur: float) -> torch.Tensor:
    """Sole, heel, shaft, tip: four numbers make a shoe."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    heel, shaft, tip, sole = (torch.rand(4, count, 1, 1) * 0.35).unbind(0)
    top = 0.75 - shaft * torch.sigmoid(12 * (0.45 - x)) - 0.3 * torch.sigmoid(10 * (0.75 - tip - x))
    bottom = 0.9 - sole * 0.2 + 0.1 * heel * torch.sigmoid(20 * (0.3 - x))
    inside = torch.sigmoid((y - top) / blur) * torch.sigmoid((bottom - y) / blur)
    inside = inside * torch.sigmoid((0.95 - x) / blur) * torch.sigmoid((x - 0.08) / blur)
    return inside.unsqueeze(1)


class VAE(nn.Module):
    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.width = width
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip
        self.fc_mu, self.fc_logvar = (nn.Linear(32 * width, latent) for _ in range(2))
        self.fc_z = nn.Linear(latent, 32 * width)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor):
        h = self.encoder(x)
        mu, logvar = self.fc_mu(h), self.fc_logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(F.relu(self.fc_z(z)).view(-1, 2 * self.width, 4, 4)), mu, logvar


def loss_function(logits, x, mu, logvar, beta: float):
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return bce + beta * kld, bce, kld


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    config["latent"] = draw.choice([6, 8, 12])
    blur = draw.uniform(0.02, 0.05)
    loader = DataLoader(
        TensorDataset(shoes(1600, config["size"], blur)), config["batch_size"], shuffle=True
    )
    test = shoes(256, config["size"], blur)
    model = VAE(config["width"], config["latent"])
    optimizer = torch.optim.Adamax(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sneakers-vae", config=config)
    step, warm = 0, config["warmup_epochs"] * len(loader)
    for epoch in range(config["epochs"]):
        model.train()
        for (x,) in loader:
            beta = min(1.0, step / warm)
            loss, _, kld = loss_function(*_args(model, x), beta)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(kl=kld.detach())
            step += 1
        model.eval()
        with torch.no_grad():
            loss, bce, _ = loss_function(*_args(model, test), 1.0)
        run.log(loss=loss, bce=bce, stage="val")
        print(f"====> Epoch: {epoch} Test set loss: {loss:.4f}")
    run.finish()


def _args(model: VAE, x: torch.Tensor):
    logits, mu, logvar = model(x)
    return logits, x, mu, logvar
