"""Keeps one optimizer step from changing anything, because its gradients are not finite.

Used by `control.skip_guard` (`init(guard="skip")`) and by `guards.skip_nonfinite`; training thread
only. Holding takes the gradients away for the length of the step, so that weights, momentum,
weight decay and step counts stay as they are; they are put back after it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

_held: weakref.WeakSet[Any] = weakref.WeakSet()
"""Optimizers whose last step was held and whose attempt has not closed yet."""
_ever: set[bool] = set()
"""Not empty once a step was held: quicker to ask at every step."""


def note_held(optimizer: Any) -> None:
    """The step that runs changes nothing: its attempt must not count as applied."""
    _held.add(optimizer)
    _ever.add(True)


def take_held(optimizer: Any) -> bool:
    """True once, after a step that was held."""
    if not _ever or optimizer not in _held:
        return False
    _held.discard(optimizer)
    return True


def parameters_of(optimizer: Any) -> list[Any]:
    """Parameters in the order of the groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def gradients_of(optimizer: Any) -> list[Any]:
    """Gradients that the next step would use."""
    return [p.grad for p in parameters_of(optimizer) if p.grad is not None]


def local(tensor: Any) -> Any:
    """This rank's part of a sharded tensor, the numbers of a sparse one, itself otherwise."""
    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.is_sparse:
        tensor = tensor._values()
    return tensor


def largest(tensors: Iterable[Any]) -> list[Any]:
    """Greatest absolute value of each tensor, zero-dimensional, on its device; NaN if one is NaN.

    Empty tensors are left out. One fused call per device and dtype; nothing is waited for.
    """
    import torch

    operations: Any = torch
    groups: dict[tuple[Any, Any], list[int]] = {}
    flat: list[Any] = []
    with torch.no_grad():
        for tensor in tensors:
            part = local(tensor)
            if part.numel() == 0:
                continue
            if part.is_complex():
                part = torch.view_as_real(part)
            groups.setdefault((part.device, part.dtype), []).append(len(flat))
            flat.append(part)
        found: list[Any] = [None] * len(flat)
        for indices in groups.values():
            norms = operations._foreach_norm([flat[i] for i in indices], float("inf"))
            for index, norm in zip(indices, norms, strict=True):
                found[index] = norm
    return found


def nonfinite_flag(gradients: Sequence[Any]) -> Any:
    """1.0 if any gradient holds NaN or Inf, else 0.0: float32, on their device. None if there
    is no number at all."""
    import torch

    maxima = largest(gradients)
    if not maxima:
        return None
    device = maxima[0].device
    with torch.no_grad():
        finite = [torch.isfinite(m).to(device) for m in maxima]
        return torch.stack(finite).all().logical_not().to(torch.float32)


class Hold:
    """One step that must change nothing: `begin` before it, `end` after it."""

    def __init__(self, optimizer: Any) -> None:
        gradients: list[tuple[Any, Any]] = []
        backups: list[_Backup] = []

        def forget(_: Any) -> None:
            # A step that raised never comes to `end`: what it used must not live on here.
            gradients.clear()
            backups.clear()

        self._optimizer = weakref.ref(optimizer, forget)
        self._gradients, self._backups = gradients, backups

    def begin(self) -> None:
        """Take the gradients away, or remember everything where an optimizer may need them."""
        optimizer = self._optimizer()
        if optimizer is None:
            return
        # torch's own optimizers pass over parameters without a gradient; others might raise.
        if not type(optimizer).__module__.startswith("torch.optim"):
            self._backups.append(_Backup(optimizer))
        else:
            for parameter in parameters_of(optimizer):
                if parameter.grad is not None:
                    self._gradients.append((parameter, parameter.grad))
                    parameter.grad = None
        note_held(optimizer)

    def end(self) -> None:
        """Put back what was taken. Gradients that came since then stay."""
        for parameter, gradient in self._gradients:
            if parameter.grad is None:
                parameter.grad = gradient
        self._gradients.clear()
        optimizer = self._optimizer()
        while self._backups:
            backup = self._backups.pop()
            if optimizer is not None:
                backup.restore(optimizer)


class _Backup:
    """Copies of weights and optimizer state, for optimizers that are not torch's own."""

    def __init__(self, optimizer: Any) -> None:
        self._weights = [(p, p.detach().clone()) for p in parameters_of(optimizer)]
        self._state = {p: _copy(entries) for p, entries in optimizer.state.items()}
        self._groups = [
            {k: v for k, v in group.items() if k not in ("params", "lr") and _plain(v)}
            for group in optimizer.param_groups
        ]

    def restore(self, optimizer: Any) -> None:
        for parameter, weight in self._weights:
            parameter.data.copy_(weight)
        for key in list(optimizer.state):
            if key in self._state:
                optimizer.state[key] = _put_back(optimizer.state[key], self._state[key])
            else:
                del optimizer.state[key]
        for group, before in zip(optimizer.param_groups, self._groups, strict=False):
            group.update(before)


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | tuple | type(None))


def _copy(value: Any) -> Any:
    if hasattr(value, "detach"):
        return value.detach().clone()
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_copy(v) for v in value]
    return value


def _put_back(now: Any, before: Any) -> Any:
    """The old values, in the tensors that are there now wherever they still fit."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [key for key in now if key not in before]:
            del now[key]
        for key, value in before.items():
            now[key] = _put_back(now[key], value) if key in now else value
        return now
    if not isinstance(before, dict) and hasattr(before, "detach") and now.shape == before.shape:
        now.data.copy_(before)
        return now
    return before
