"""With every probe at every attempt the training is the same to the last bit, and so is the RNG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sdk.watched import Watched

pytestmark = pytest.mark.usefixtures("every_attempt")

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-2, amsgrad=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, 1e-2, fused=True),
    "adamw foreach": lambda p: torch.optim.AdamW(p, 1e-2, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.3, max_iter=4),
}


def train(make: Callable[[Any], torch.optim.Optimizer]) -> list[torch.Tensor]:
    """Everything that a run leaves behind: weights, buffers, EMA, moments, random numbers."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 16),
        torch.nn.BatchNorm1d(16),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(16, 2),
    )
    ema = torch.optim.swa_utils.AveragedModel(model)
    optimizer = make(model.parameters())
    data = torch.utils.data.DataLoader(torch.randn(96, 6), batch_size=8, shuffle=True)
    for x in data:

        def closure(x: torch.Tensor = x) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            return loss

        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        ema.update_parameters(model)
    left = [*model.state_dict().values(), *ema.state_dict().values(), torch.get_rng_state()]
    for state in optimizer.state.values():
        left += [value for value in state.values() if isinstance(value, torch.Tensor)]
    stored = io.BytesIO()
    torch.save(model, stored)  # the whole module: nothing of ours may hang on it
    stored.seek(0)
    again = torch.load(stored, weights_only=False)
    left += again.state_dict().values()
    return [tensor.detach().clone() for tensor in left]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_weights_moments_buffers_and_random_numbers(
    watched: Callable[..., Watched], name: str
) -> None:
    plain = train(OPTIMIZERS[name])
    seen = watched()
    with_us = train(OPTIMIZERS[name])
    seen.read()
    assert all(torch.equal(a, b) for a, b in zip(plain, with_us, strict=True))
    kinds = {key[0] for key in seen.points}
    assert kinds >= {
        "update_norm",
        "update_norm_layer",
        "update_ratio_layer",
        "param_norm",
        "param_norm_layer",
        "moment_norm",
        "buffer_abs_max_layer",
        "data_time",
        "memory",
    }
    assert ("adam_rms" in kinds) == ("adam" in name)
    assert not seen.reports
