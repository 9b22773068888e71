"""A Hamiltonian network learns the energy of a stiff spring from its motion: first Adam, then
L-BFGS with a strong Wolfe line search on all data, whose closures try points that are a lot worse
before they find a better one. The loss falls by several orders of magnitude, in jumps. Nothing is
wrong."""

from __future__ import annotations

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="physics", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "adam_steps": 400, "lbfgs_steps": 40, "max_iter": 8, "points": 400}
CONFIG |= {"hidden": 32, "batch_size": 64}


class Energy(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, 1, bias=False),
        )  # fmt: skip

    def forward(self, state):
        """d state / dt by Hamilton's equations."""
        state = state.requires_grad_()
        energy = self.net(state).sum()
        dq, dp = torch.autograd.grad(energy, state, create_graph=True)[0].unbind(1)
        return torch.stack([dp, -dq], 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    stiffness, cubic = 1 + torch.rand(()), torch.rand(())
    state = 2 * torch.rand(config["points"], 2) - 1
    q, p = state.T
    flow = torch.stack([p, -stiffness * q - cubic * q**3], 1)
    model = Energy(config["hidden"])
    run = nanwatch.init(project="corpus", name="hamiltonian", config=config)
    adam = torch.optim.Adam(model.parameters(), lr=config["lr"])
    for _ in range(config["adam_steps"]):
        rows = torch.randint(0, config["points"], (config["batch_size"],))
        loss = (model(state[rows]) - flow[rows]).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    run.mark("task", "polishing")
    polish = torch.optim.LBFGS(
        model.parameters(), max_iter=config["max_iter"], line_search_fn="strong_wolfe"
    )

    def closure():
        polish.zero_grad()
        loss = (model(state.clone()) - flow).square().mean()
        loss.backward()
        return loss

    for _ in range(config["lbfgs_steps"]):
        polish.step(closure)
    run.finish()
