"""Gradients that are spread over ranks (DTensor): this rank's part of their norms.

Everything here works on what lies in this process. An operation on a DTensor may make torch talk
to the other ranks, and would wait for them for ever if they are not doing the same; so nothing
but `to_local` is ever called on one. The server puts the parts together. Training thread only;
`gradients` and `control.actions` call it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nanwatch.probes.tensors import Numbers
from nanwatch.ranks import group_now


def dtensor_type() -> type | None:
    """torch's DTensor, if the script has imported it: else nothing can be one."""
    module = sys.modules.get("torch.distributed.tensor")
    return getattr(module, "DTensor", None)


def is_sharded(tensor: Any) -> bool:
    """True for a DTensor, however it is placed."""
    kind = dtensor_type()
    return kind is not None and isinstance(tensor, kind)


def local_part(tensor: Any) -> Any:
    """What of a tensor lies in this process; the tensor itself if it is a plain one."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Any) -> Any:
    """The tensor if all of it lies in this process, else None."""
    kind = dtensor_type()
    if kind is None or not isinstance(tensor, kind):
        return tensor
    if all(placement.is_replicate() for placement in tensor.placements):
        return tensor.to_local()
    return None


def replicas(gradient: Any, world: int) -> int | None:
    """How many ranks hold the same part; None if the parts are not added up yet.

    A plain gradient beside sharded ones belongs to every rank.
    """
    if not is_sharded(gradient):
        return world
    count = 1
    for dimension, placement in enumerate(gradient.placements):
        if placement.is_partial():
            return None
        if placement.is_replicate():
            count *= gradient.device_mesh.size(dimension)
    return count


def shares(gradients: Sequence[Any]) -> list[float] | None:
    """Factor for each local norm, so that the squares of all ranks add up to the whole's.

    None if a gradient waits for a reduction that is the script's to do.
    """
    group = group_now()
    world = group[1] if group is not None else 1
    found = [replicas(gradient, world) for gradient in gradients]
    if any(count is None for count in found):
        return None
    return [1 / math.sqrt(count) for count in found if count is not None]


def gathered(modules: Iterable[Any], owner_of: Mapping[int, int]) -> dict[int, int]:
    """`id` of the parameters that a forward pass under FSDP2 uses → number of their optimizer.

    Optimizers hold the sharded parameters; the graph ends at others, which FSDP fills and empties.
    What FSDP knows of the pair is private to torch: where it has changed, nothing is found.
    """
    found: dict[int, int] = {}
    for module in modules:
        for part in module.modules():
            state = part._get_fsdp_state() if hasattr(part, "_get_fsdp_state") else None
            groups = getattr(state, "_fsdp_param_groups", None)
            if groups is None:
                groups = [getattr(state, "_fsdp_param_group", None)]
            for group in groups:
                for parameter in getattr(group, "fsdp_params", ()):
                    owner = owner_of.get(id(parameter.sharded_param))
                    used = getattr(parameter, "_unsharded_param", None)
                    if owner is not None and used is not None:
                        found[id(used)] = owner
    return found


class Share(Numbers):
    """Numbers of this rank's parts, each times its factor."""

    __slots__ = ("_factors", "_local")

    def __init__(self, local: Numbers, factors: Sequence[float]) -> None:
        super().__init__(None)
        self._local, self._factors = local, factors

    def ready(self) -> bool:
        """True if `get` does not wait."""
        return self._local.ready()

    def here(self) -> bool:
        """True if the numbers are on the host."""
        return self._local.here()

    def get(self) -> list[float]:
        """The shares."""
        numbers = self._local.get()
        return [value * factor for value, factor in zip(numbers, self._factors, strict=True)]


def share_of(
    layout: Any, positions: Sequence[int], parameters: Sequence[Any], numbers: Numbers
) -> Numbers | None:
    """This rank's shares from the norms of its parts; None if they cannot be told.

    Placements are looked at once for each set of parameters that has gradients.
    """
    known_for, factors = layout.shares
    if known_for is not positions:
        factors = shares([parameters[position].grad for position in positions])
        layout.shares = (positions, factors)
    if factors is None:
        return None
    return numbers if all(factor == 1.0 for factor in factors) else Share(numbers, factors)


def coverage(often: str, layouts: Iterable[Any]) -> str:
    """What the page says of the norms of sharded optimizers, given their layouts."""
    if any(
        known_for is not None and made is None for known_for, made in (x.shares for x in layouts)
    ):
        return "not measured: gradients wait for a reduction that the script makes"
    group = group_now()
    ranks = f"sharded over {group[1]} ranks, " if group is not None else "sharded, "
    return f"{ranks}combined by the server, {often}"


def why_one_rank_cannot_save(modules: Mapping[str, Any], optimizers: Mapping[str, Any]) -> str:
    """Why a checkpoint needs all ranks; empty if this one holds everything.

    Asking a sharded module for its state is a collective: alone, this rank would wait for ever.
    """
    for module in modules.values():
        kinds = {type(part).__name__ for part in module.modules()}
        if {"FullyShardedDataParallel", "DeepSpeedEngine"} & kinds or any(
            is_sharded(parameter) for parameter in module.parameters()
        ):
            return _EVERYONE
    names = {type(optimizer).__name__ for optimizer in optimizers.values()}
    return _EVERYONE if "ZeroRedundancyOptimizer" in names else ""


_EVERYONE = (
    "the weights or the optimizer's state are spread over the ranks, and one rank alone cannot "
    "save them: save a checkpoint from the script, on all ranks"
)
