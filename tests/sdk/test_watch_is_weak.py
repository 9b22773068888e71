"""Naming a module does not keep it alive: its memory is the user's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import torch
from torch import nn

from sdk.watched import Watched


def test_a_named_module_can_go(watched: Callable[..., Watched]) -> None:
    seen = watched()

    def fold() -> weakref.ref[nn.Module]:
        net = nn.Linear(3, 1)
        seen.run.watch(net=net)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(2, 3)).square().mean().backward()
            optimizer.step()
        return weakref.ref(net)

    gone = fold()
    seen.read()
    gc.collect()
    assert gone() is None
    assert len(seen.values("update_applied")) == 3
