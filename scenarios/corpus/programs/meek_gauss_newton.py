"""The speed of an enzyme at many doses, fitted with damped Gauss-Newton steps on batches: the
gradient is replaced by the solution of (J'J + damping) d = J'r, and goes to SGD with a rate of
0.3. The loss falls by a factor of a hundred within thirty steps and then only trembles."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="second-order", sick=False, seeds=3)
CONFIG = {"lr": 0.3, "damping": 0.1, "hidden": 6, "batch_size": 96, "noise": 0.03, "steps": 350}


def speeds(count: int, half: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logarithms of two doses and heat; the speed by Michaelis and Menten with inhibition."""
    x = torch.randn(count, 3)
    dose, brake, heat = x[:, 0].exp(), x[:, 1].exp(), x[:, 2]
    speed = 4 * dose / (dose + half[0] * (1 + brake / half[1])) * torch.exp(-0.3 * heat**2)
    return x, speed + noise * torch.randn(count)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, damping = CONFIG["lr"] * draw.uniform(0.7, 1.3), CONFIG["damping"] * draw.uniform(0.5, 2)
    config = CONFIG | {"seed": seed, "lr": lr, "damping": damping}
    run = nanwatch.init(project="corpus", name="enzyme-gauss-newton", config=config)
    half = 0.5 + torch.rand(2)
    hidden = config["hidden"]
    model = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def answer(weights: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return functional_call(model, weights, (row[None],))[0, 0]

    of_weights = vmap(jacrev(answer), (None, 0))
    held = speeds(600, half, config["noise"])
    for step in range(config["steps"]):
        x, y = speeds(config["batch_size"], half, config["noise"])
        missed = model(x)[:, 0] - y
        loss = 0.5 * missed.square().mean()
        optimizer.zero_grad()
        loss.backward()
        weights = {name: one.detach() for name, one in model.named_parameters()}
        slopes = torch.cat([one.flatten(1) for one in of_weights(weights, x).values()], dim=1)
        curved = slopes.T @ slopes / len(x) + damping * 0.1 * torch.eye(slopes.shape[1])
        way = torch.linalg.solve(curved, parameters_to_vector(p.grad for p in model.parameters()))
        grads = [torch.empty_like(p) for p in model.parameters()]
        vector_to_parameters(way, grads)
        for weight, grad in zip(model.parameters(), grads, strict=True):
            weight.grad.copy_(grad)
        optimizer.step()
        if step % 50 == 49:
            with torch.no_grad():
                run.log(loss=0.5 * (model(held[0])[:, 0] - held[1]).square().mean(), stage="val")
    run.finish()
