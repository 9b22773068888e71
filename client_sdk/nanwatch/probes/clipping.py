"""Sees the user's own gradient clipping, and takes the norms that it computes anyway.

Wraps module globals of `torch.nn.utils.clip_grad`, so that functions imported before us are seen
too. During the total norm we stand in for `torch._foreach_norm` and `torch.stack`: the very same
operations run, we only keep the vector of norms. If torch's source differs, nothing is captured
and the ordinary pass of `gradients` measures instead. `observer` is told by callbacks.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nanwatch.guard import GUARD
from nanwatch.probes import sharded


@dataclass(slots=True, eq=False)
class Clip:
    """One clipping call: what it saw before it clipped."""

    threshold: float
    """Greatest total norm; of `clip_grad_value_` the greatest absolute value."""
    norms: Any = None
    """Vector of L2 norms, one for each gradient; None if another norm was used."""
    by_value: bool = False


@dataclass(slots=True)
class _Capture:
    total: Any
    vector: Any
    gradients: list[int]
    """`id(gradient)` of each norm; empty if they are those of the parameters, in order."""


OnClip = Callable[[list[Any], Clip], None]
"""Called with the parameters that have gradients, before they are clipped. If norms were
captured, they are in the order of these parameters."""

OnValue = Callable[[list[Any], Clip], None]
"""The same with the gradients themselves."""


def _code(function: Any) -> Any:
    """Code object of a function, below its decorators."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return getattr(function, "__code__", None)


class ClippingProbe:
    """Installs and removes the wrappers."""

    def __init__(self, on_clip: OnClip, on_value: OnValue, enabled: Callable[[], bool]) -> None:
        self._on_clip = on_clip
        self._on_value = on_value
        self._enabled = enabled
        self._last: _Capture | None = None
        self._originals: list[tuple[Any, str, Any]] = []
        self._norm_code: Any = None
        self._value_code: Any = None

    def install(self) -> None:
        """Wrap what exists in this version of torch."""
        import torch.nn.utils as public
        import torch.nn.utils.clip_grad as module

        self._norm_code = _code(module.clip_grad_norm_)
        self._value_code = _code(module.clip_grad_value_)
        for name, alias, wrap in (
            ("_get_total_norm", "get_total_norm", self._wrap_norm),
            ("_clip_grads_with_norm_", "clip_grads_with_norm_", self._wrap_clip),
            ("_group_tensors_by_device_and_dtype", "", self._wrap_group),
        ):
            original = getattr(module, name, None)
            if original is None:
                continue
            ours = wrap(original)
            for owner, where in ((module, name), (public, alias)):
                if alias or owner is module:
                    self._replace(owner, where, original, ours)

    def _replace(self, owner: Any, name: str, original: Any, ours: Any) -> None:
        if getattr(owner, name, None) is original:
            self._originals.append((owner, name, original))
            setattr(owner, name, ours)

    def remove(self) -> None:
        """Put torch's own functions back."""
        for owner, name, original in self._originals:
            setattr(owner, name, original)
        self._originals.clear()

    # --- the total norm --------------------------------------------------------------------------

    def _wrap_norm(self, original: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        compiling, twice = torch.compiler.is_compiling, (list, torch.Tensor)

        def get_total_norm(tensors: Any, norm_type: float = 2.0, *args: Any, **kwargs: Any) -> Any:
            if compiling() or not self._enabled():
                return original(tensors, norm_type, *args, **kwargs)
            if not isinstance(tensors, twice):
                tensors = list(tensors)
            self._last = None
            eyes = _Eyes(torch)
            try:
                total = original(tensors, norm_type, *args, **kwargs)
            finally:
                eyes.close()
            vector = eyes.vector()
            if vector is not None:
                # `clip_grad_norm_` clips the very tensors whose norm it took; others may not.
                known = sys._getframe(1).f_code is self._norm_code and len(eyes.groups) == 1
                ids = [] if known else [id(t) for group in eyes.groups for t in group]
                self._last = _Capture(total, vector, ids)
            return total

        return get_total_norm

    def _wrap_clip(self, original: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        compiling, twice = torch.compiler.is_compiling, (list, torch.Tensor)

        def clip_grads_with_norm_(
            parameters: Any, max_norm: float, total_norm: Any, *args: Any, **kwargs: Any
        ) -> Any:
            if compiling() or not self._enabled():
                return original(parameters, max_norm, total_norm, *args, **kwargs)
            if not isinstance(parameters, twice):
                parameters = list(parameters)
            try:
                found = parameters if isinstance(parameters, list) else [parameters]
                capture, self._last = self._last, None
                if capture is not None and capture.total is not total_norm:
                    capture = None
                # A number only: reading a threshold from a device would wait for it.
                bound = float(max_norm) if not _on_device(max_norm) else float("nan")
                if capture is None:
                    self._on_clip([p for p in found if p.grad is not None], Clip(bound))
                else:
                    seen = Clip(bound, capture.vector)
                    self._on_clip(*_aligned(found, seen, capture.gradients))
            except Exception as error:
                GUARD.note("clipping", error)
            return original(parameters, max_norm, total_norm, *args, **kwargs)

        return clip_grads_with_norm_

    # --- clipping by value -----------------------------------------------------------------------

    def _wrap_group(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`clip_grad_value_` calls this global, and nothing else of its module, before it clips."""
        import torch

        compiling = torch.compiler.is_compiling

        def _group_tensors_by_device_and_dtype(lists: Any, *args: Any, **kwargs: Any) -> Any:
            if compiling():
                return original(lists, *args, **kwargs)
            caller = sys._getframe(1)
            if caller.f_code is self._value_code and self._enabled():
                try:
                    bound = caller.f_locals.get("clip_value")
                    if isinstance(bound, float):
                        self._on_value(list(lists[0]), Clip(bound, by_value=True))
                except Exception as error:
                    GUARD.note("clipping", error)
            return original(lists, *args, **kwargs)

        return _group_tensors_by_device_and_dtype


class _Eyes:
    """Looks over torch's shoulder during one total norm, on this thread only."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._norm, self._stack = torch._foreach_norm, torch.stack
        self._thread = threading.get_ident()
        self.groups: list[Sequence[Any]] = []
        self._vector: Any = None
        self._parts: list[Any] = []
        """Norms of what lies in this process, where tensors are spread over ranks."""
        torch._foreach_norm, torch.stack = self._keep_norms, self._keep_stack

    def close(self) -> None:
        """Look away."""
        self._torch._foreach_norm, self._torch.stack = self._norm, self._stack

    def _keep_norms(self, group: Sequence[Any], order: Any = 2, *more: Any, **named: Any) -> Any:
        norms = self._norm(group, order, *more, **named)
        if order == 2 and threading.get_ident() == self._thread:
            self.groups.append(group)
            # if one tensor is spread torch makes all norms so; there may be thousands
            if norms and sharded.is_sharded(norms[0]):
                self._parts += map(sharded.local_part, norms)
        return norms

    def _keep_stack(self, *args: Any, **named: Any) -> Any:
        result = self._stack(*args, **named)
        if threading.get_ident() == self._thread:
            self._vector = result
        return result

    def vector(self) -> Any:
        """The L2 norms in the order of `groups`; None if they were not all seen.

        Norms in half precision overflow at 65504: those are measured again in float32.
        """
        vector, torch = self._vector, self._torch
        if self._parts and len({part.dtype for part in self._parts}) == 1:
            vector = self._stack(self._parts)
        if (
            type(vector) is not torch.Tensor
            or vector.dim() != 1
            or vector.dtype is torch.float16
            or sum(map(len, self.groups)) != vector.numel()
        ):
            return None
        return vector


def _on_device(value: Any) -> bool:
    device = getattr(value, "device", None)
    return device is not None and getattr(device, "type", "cpu") != "cpu"


def _aligned(parameters: list[Any], clip: Clip, ids: list[int]) -> tuple[list[Any], Clip]:
    """Parameters with gradients in the order of the norms; no norms if they do not belong."""
    if not ids and clip.norms.numel() == len(parameters):
        return parameters, clip
    present = [p for p in parameters if p.grad is not None]
    if ids:
        by_gradient = {id(p.grad): p for p in present}
        ordered = [by_gradient[i] for i in ids if i in by_gradient]
        if len(ordered) != len(ids) or len(ids) != len(present):
            clip.norms = None
            return present, clip
        return ordered, clip
    if len(present) != clip.norms.numel():
        clip.norms = None
    return present, clip
