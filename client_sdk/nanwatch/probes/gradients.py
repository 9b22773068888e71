"""Gradient norms of one attempt, per parameter, before clipping: by one fused pass at most.

Norms that the user's clipping computed are used as they are; only what it did not cover is
measured, and then no more often than the overhead budget allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nanwatch.probes.registry import Known, Layout
from nanwatch.probes.tensors import Numbers, norms


@dataclass(slots=True)
class Norms:
    """Norms of the parameters at `positions`, and the layout they belong to."""

    layout: Layout
    positions: list[int]
    numbers: Numbers


def measure(known: Known, *, own_pass: bool) -> tuple[Norms | None, bool]:
    """(norms of the gradients that are there now, whether a pass of our own was made).

    Without `own_pass` only norms that clipping left behind are used. Fused optimizers under a
    GradScaler hold scaled gradients: their norms are divided by `grad_scale` on the device.
    """
    import torch

    layout = known.layout
    if layout is None:
        return None, False
    free: dict[int, Any] = {}
    for clip in reversed(known.clips):  # the first one saw the gradients before any clipping
        free.update(clip.norms)
    positions: list[int] = []
    found: list[Any] = []
    missing: list[int] = []
    gradients: list[Any] = []
    for position, parameter in enumerate(known.parameters()):
        gradient = parameter.grad
        if gradient is None:
            continue
        norm = free.get(id(gradient))
        positions.append(position)
        found.append(norm)
        if norm is None:
            missing.append(len(found) - 1)
            gradients.append(gradient)
    if not found or (missing and not own_pass):
        return None, False
    if missing:
        with torch.no_grad():
            for index, norm in zip(missing, _norms_of(gradients), strict=True):
                found[index] = norm
    scale = getattr(known.optimizer, "grad_scale", None)
    if missing and scale is not None:
        found = [norm / scale for norm in found]
    return Norms(layout, positions, norms(found)), bool(missing)


def _norms_of(gradients: list[Any]) -> list[Any]:
    """L2 norm of each gradient, one fused call per device and kind of tensor."""
    import torch

    operations: Any = torch
    dense: dict[tuple[Any, Any], list[int]] = {}
    result: list[Any] = [None] * len(gradients)
    for index, gradient in enumerate(gradients):
        if gradient.is_sparse:
            result[index] = torch.linalg.vector_norm(gradient.coalesce().values())
        else:
            dense.setdefault((gradient.device, gradient.dtype), []).append(index)
    for indices in dense.values():
        half = gradients[indices[0]].dtype in (torch.float16, torch.bfloat16)
        dtype = torch.float32 if half else None
        group = operations._foreach_norm([gradients[i] for i in indices], 2, dtype)
        for index, norm in zip(indices, group, strict=True):
            result[index] = norm
    return result


def total(values: list[float]) -> float:
    """L2 norm of norms without overflow; NaN if one is NaN."""
    return math.nan if any(map(math.isnan, values)) else math.hypot(*values)


def by_layer(layout: Layout, positions: list[int], values: list[float]) -> dict[int, float]:
    """Layer index → L2 norm of its parameters."""
    grouped: dict[int, list[float]] = {}
    for position, value in zip(positions, values, strict=True):
        grouped.setdefault(layout.layer_of[position], []).append(value)
    return {layer: total(found) for layer, found in grouped.items()}
