"""Gradient norms of one attempt, per parameter, before clipping: by one fused pass at most.

Norms that the user's clipping computed are used as they are; only what it did not cover is
measured, and then no more often than the overhead budget allows. `observer` calls `measure` on
the training thread; `Combine` and `total` run on the background thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import is_, itemgetter
from typing import Any

from nanwatch.probes import sharded
from nanwatch.probes.registry import Known, Layout, Registry
from nanwatch.probes.tensors import Joined, Numbers, Picked, norms

PLANS_MAX = 32


@dataclass(slots=True)
class Norms:
    """Norms of the parameters at `positions`, and the layout they belong to."""

    layout: Layout
    positions: Sequence[int]
    numbers: Numbers

    @property
    def kind(self) -> str:
        """What their total is: the norm of the run, or this rank's part of it."""
        return "grad_norm_shard" if self.layout.sharded else "grad_norm"


# --- norms that clipping left behind -------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """Which of a clipping call's norms belong to one optimizer."""

    number: int
    layout: Layout | None
    """None: its parameters have no names yet."""
    positions: list[int]
    indices: list[int] | None
    """Where in the vector of norms they are; None: all of it, in order."""
    whole: bool
    """True if they are all parameters of this optimizer."""


class Plans:
    """Shares of clipping calls, worked out once for each list of parameters."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._owners: dict[int, int] = {}
        self._plans: dict[tuple[int, ...], list[Share]] = {}
        self._usual: list[Share] | None = None
        """Of a call that clips just what one optimizer holds, in its order: nearly every call."""

    def of(self, parameters: Sequence[Any]) -> list[Share]:
        """Shares of a call that clips these parameters. Unknown parameters have none."""
        owners = self._registry.owner_of()
        if owners is not self._owners:
            self._owners, self._usual = owners, None
            self._plans.clear()
        if self._usual is not None and self._holds_just(self._usual, parameters):
            return self._usual
        ids = tuple(map(id, parameters))
        found = self._plans.get(ids)
        if found is None or not self._fits(found):
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            found = self._plans[ids] = self._work_out(ids)
        if len(found) == 1 and found[0].whole and self._holds_just(found, parameters):
            self._usual = found
        return found

    def _holds_just(self, shares: list[Share], parameters: Sequence[Any]) -> bool:
        """True if these are the parameters of the share's optimizer, one by one, and those that
        the share was made for."""
        share = shares[0]
        layout, positions = share.layout, share.positions
        if layout is None or not parameters or len(parameters) != len(positions):
            return False
        place = layout.position_of.get
        if (place(id(parameters[0])), place(id(parameters[-1]))) != (positions[0], positions[-1]):
            return False
        known = self._registry.known[shares[0].number]
        optimizer = known.optimizer
        if optimizer is None or not self._fits(shares):
            return False
        groups = optimizer.param_groups
        held = groups[0]["params"] if len(groups) == 1 else known.parameters()
        # `==` of tensors would compute
        return len(held) == len(parameters) and all(map(is_, held, parameters))

    def _fits(self, shares: list[Share]) -> bool:
        known = self._registry.known
        return all(share.layout is known[share.number].layout for share in shares)

    def _work_out(self, ids: Sequence[int]) -> list[Share]:
        indices: dict[int, dict[int, int]] = {}
        for index, key in enumerate(ids):
            number = self._owners.get(key)
            if number is not None:
                indices.setdefault(number, {}).setdefault(key, index)
        shares: list[Share] = []
        for number, found in indices.items():
            layout = self._registry.known[number].layout
            if layout is None or any(key not in layout.position_of for key in found):
                shares.append(Share(number, None, [], None, False))
                continue
            positions = [layout.position_of[key] for key in found]
            all_of_it = len(found) == len(ids)
            shares.append(
                Share(
                    number,
                    layout,
                    positions,
                    None if all_of_it else list(found.values()),
                    len(set(positions)) == len(layout.names),
                )
            )
        return shares


def left_behind(known: Known) -> tuple[Norms | None, bool]:
    """(norms of clipping calls of the attempt, whether they are those of all gradients)."""
    layout = known.layout
    free = [(share, numbers) for share, numbers in known.free if share.layout is layout]
    if layout is None or not free:
        return None, False
    share, numbers = free[0]
    if share.whole:  # the first call saw the gradients before any clipping
        return Norms(layout, share.positions, numbers), True
    positions: list[int] = []
    parts: list[Numbers] = []
    met: set[int] = set()
    for share, numbers in free:
        fresh = [n for n, position in enumerate(share.positions) if position not in met]
        met.update(share.positions)
        positions += [share.positions[n] for n in fresh]
        parts.append(numbers if len(fresh) == len(share.positions) else Picked(numbers, fresh))
    joined = parts[0] if len(parts) == 1 else Joined(parts)
    return Norms(layout, positions, joined), len(met) == len(layout.names)


# --- a pass of our own ---------------------------------------------------------------------------


def measure(known: Known, *, own_pass: bool) -> tuple[Norms | None, bool]:
    """(norms of the gradients that are there now, whether a pass of our own was made).

    Of gradients that are spread over ranks they are this rank's share of the norms.
    """
    found, passed = _measured(known, own_pass=own_pass)
    if found is None or not found.layout.sharded:
        return found, passed
    numbers = sharded.share_of(found.layout, found.positions, known.parameters(), found.numbers)
    return (Norms(found.layout, found.positions, numbers) if numbers is not None else None), passed


def _measured(known: Known, *, own_pass: bool) -> tuple[Norms | None, bool]:
    """Norms of what lies in this process.

    Without `own_pass` only norms that clipping left behind are used. Fused optimizers under a
    GradScaler hold scaled gradients: their norms are divided by `grad_scale` on the device.
    """
    import torch

    layout = known.layout
    if layout is None:
        return None, False
    free, complete = left_behind(known)
    if known.free and free is None:
        return None, False  # named anew since: the gradients are clipped by now
    if complete or (free is None and not own_pass):
        return free, False
    have = set(free.positions) if free is not None else ()
    positions: list[int] = []
    gradients: list[Any] = []
    for position, parameter in enumerate(known.parameters()):
        gradient = parameter.grad
        if gradient is not None and position not in have:
            positions.append(position)
            gradients.append(sharded.local_part(gradient) if layout.sharded else gradient)
    if not gradients or not own_pass:
        return (free if not gradients else None), False
    with torch.no_grad():
        found = _norms_of(gradients)
        scale = getattr(known.optimizer, "grad_scale", None)
        if scale is not None:
            found = [norm / scale.to(norm.device) for norm in found]
        own = norms(found)
    if free is not None:
        return Norms(layout, [*free.positions, *positions], Joined([free.numbers, own])), True
    return Norms(layout, layout.same_as_before(positions), own), True


def _norms_of(gradients: list[Any]) -> list[Any]:
    """L2 norm of each gradient, one fused call per device and kind of tensor."""
    import torch

    operations: Any = torch
    result: list[Any] = [None] * len(gradients)
    dense: dict[tuple[Any, Any], list[int]] = {}
    first = gradients[0]
    device, dtype = first.device, first.dtype
    if any(g.is_sparse or g.dtype is not dtype or g.device != device for g in gradients):
        for index, gradient in enumerate(gradients):
            if gradient.is_sparse:
                result[index] = torch.linalg.vector_norm(gradient.coalesce().values())
            else:
                dense.setdefault((gradient.device, gradient.dtype), []).append(index)
    else:
        dense[device, dtype] = list(range(len(gradients)))
    for indices in dense.values():
        half = gradients[indices[0]].dtype in (torch.float16, torch.bfloat16)
        wide = torch.float32 if half else None
        group = operations._foreach_norm([gradients[i] for i in indices], 2, wide)
        for index, norm in zip(indices, group, strict=True):
            result[index] = norm
    return result


# --- on the background thread --------------------------------------------------------------------


def total(values: Sequence[float]) -> float:
    """L2 norm of norms without overflow; NaN if one is NaN."""
    norm = math.hypot(*values)
    if math.isfinite(norm):
        return norm
    return math.nan if any(map(math.isnan, values)) else norm


def unreached(
    layout: Layout, positions: Sequence[int], values: Sequence[float]
) -> dict[int, float]:
    """Layer → share of its weights with a gradient that is exactly 0, among those that have one.

    Layers without such weights are left out. A layer whose bias moves while its weight cannot (a
    rounded weight, an input of zeros) has a norm like any other; only this tells.
    """
    zeros: dict[int, int] = {}
    for position, value in zip(positions, values, strict=True):
        if value == 0:
            layer = layout.layer_of[position]
            zeros[layer] = zeros.get(layer, 0) + layout.sizes[position]
    if not zeros:
        return {}
    whole = dict.fromkeys(zeros, 0)
    for position in positions:
        layer = layout.layer_of[position]
        if layer in whole:
            whole[layer] += layout.sizes[position]
    return {layer: zeros[layer] / whole[layer] for layer in zeros if whole[layer]}


def _pick(indices: Sequence[int]) -> Callable[[Sequence[float]], Sequence[float]]:
    if len(indices) == 1:
        only = indices[0]
        return lambda values: (values[only],)
    return itemgetter(*indices)


class Combine:
    """Norms of parameters → norms of layers, without Python work for each of them.

    `layers` are the indices of the layers in the order of the result.
    """

    def __init__(self, layout: Layout, positions: Sequence[int]) -> None:
        members: dict[int, list[int]] = {}
        for index, position in enumerate(positions):
            members.setdefault(layout.layer_of[position], []).append(index)
        by_size: dict[int, list[int]] = {}
        for layer, indices in members.items():
            by_size.setdefault(len(indices), []).append(layer)
        self._columns = [
            [_pick([members[layer][n] for layer in layers]) for n in range(size)]
            for size, layers in by_size.items()
        ]
        self.layers = [layer for layers in by_size.values() for layer in layers]
        self.ids: tuple[int, ...] = ()

    def __call__(self, values: Sequence[float]) -> list[float]:
        """L2 norm of each layer in the order of `layers`; NaN where one of its norms is NaN."""
        result: list[float] = []
        finite = math.isfinite(math.hypot(*values))
        for columns in self._columns:
            picked = [pick(values) for pick in columns]
            if len(picked) == 1:
                result.extend(picked[0])
            elif finite:
                result.extend(map(math.hypot, *picked))
            else:
                result.extend(map(total, zip(*picked, strict=True)))
        return result
