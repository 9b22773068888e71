"""How alive a layer's units are: share of dead and of saturated ones, from what it put out.

Pure reductions on the device, and the table of functions they belong to. Called by `sampling`
while a sampled forward pass runs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

DEAD, SATURATED = "dead_fraction_layer", "saturated_fraction_layer"

ELEMENTS_MOST = 1 << 20
"""Of larger outputs only the first rows of the batch are looked at."""

TINY = 1e-3
"""GELU, SiLU and Mish never give an exact zero: below this in the whole batch a unit is dead."""

EDGE = 0.99
"""Beyond this share of its range a tanh or a sigmoid is saturated."""


@cache
def functions() -> dict[Any, tuple[str, float]]:
    """Function of torch → (kind, threshold)."""
    import torch
    import torch.nn.functional as F

    tensor = torch.Tensor
    table: dict[Any, tuple[str, float]] = {}
    relu = (F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, tensor.relu, tensor.relu_)
    soft = (F.gelu, F.silu, F.mish)
    tanh = (F.tanh, torch.tanh, torch.tanh_, tensor.tanh, tensor.tanh_)
    sigmoid = (F.sigmoid, torch.sigmoid, torch.sigmoid_, tensor.sigmoid, tensor.sigmoid_)
    for group, entry in (
        (relu, (DEAD, 0.0)),
        (soft, (DEAD, TINY)),
        (tanh, (SATURATED, 0.0)),
        (sigmoid, (SATURATED, 0.5)),
    ):
        table.update(dict.fromkeys(group, entry))
    return table


def measured(kind: str, threshold: float, output: Any, channels: bool) -> Any | None:
    """The share as a tensor of no dimension on the device; None if the output has no units.

    `channels`: units are along dimension 1 (after a convolution), else along the last one.
    """
    output = output.detach()
    if output.dim() == 0 or output.numel() == 0:
        return None
    if output.dim() > 1 and output.numel() > ELEMENTS_MOST:
        rows = max(1, ELEMENTS_MOST // (output.numel() // output.shape[0]))
        output = output[:rows]
    if kind == SATURATED:
        return saturated(output, threshold)
    if output.dim() < 2 or output.numel() == output.shape[-1]:
        return None  # one sample: a unit that is zero once is not dead
    return dead(output, threshold, 1 if channels and output.dim() >= 3 else output.dim() - 1)


def dead(output: Any, threshold: float, unit: int) -> Any:
    """Share of units along dimension `unit` whose output never exceeds `threshold`."""
    import torch

    rest = [d for d in range(output.dim()) if d != unit]
    peak = torch.linalg.vector_norm(output, float("inf"), dim=rest)
    return (peak <= threshold).float().mean()


def saturated(output: Any, middle: float) -> Any:
    """Share of values at the end of the range: [-1, 1] around 0, or [0, 1] around one half."""
    if middle:
        return ((output - middle).abs() > middle * EDGE).float().mean()
    return (output.abs() > EDGE).float().mean()
