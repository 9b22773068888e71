"""Sees the user's own gradient clipping, and takes the norms that it computes anyway.

Wraps two module globals of `torch.nn.utils.clip_grad`, so that functions imported before us are
seen too. During the total norm we stand in for `torch._foreach_norm`: the very same operations
run, we only keep the result per tensor. If torch's source differs, nothing is captured and the
ordinary pass of `gradients` measures instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nanwatch.guard import GUARD


@dataclass(slots=True, eq=False)
class Clip:
    """One clipping call: what it saw before it clipped."""

    threshold: float
    norms: dict[int, Any]
    """`id(gradient)` → its L2 norm; empty if another norm was used."""


@dataclass(slots=True)
class _Capture:
    total: Any = None
    norms: dict[int, Any] = field(default_factory=dict)


OnClip = Callable[[list[Any], Clip], None]


class ClippingProbe:
    """Installs and removes the two wrappers."""

    def __init__(self, on_clip: OnClip, enabled: Callable[[], bool]) -> None:
        self._on_clip = on_clip
        self._enabled = enabled
        self._last = _Capture()
        self._originals: dict[str, Any] = {}

    def install(self) -> None:
        """Wrap the globals that exist in this version of torch."""
        import torch.nn.utils.clip_grad as module

        for name, wrap in (
            ("_get_total_norm", self._wrap_norm),
            ("_clip_grads_with_norm_", self._wrap_clip),
        ):
            original = getattr(module, name, None)
            if original is not None:
                self._originals[name] = original
                setattr(module, name, wrap(original))

    def remove(self) -> None:
        """Put torch's own functions back."""
        import torch.nn.utils.clip_grad as module

        for name, original in self._originals.items():
            setattr(module, name, original)
        self._originals.clear()

    def _wrap_norm(self, original: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        def get_total_norm(tensors: Any, norm_type: float = 2.0, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not self._enabled():
                return original(tensors, norm_type, *args, **kwargs)
            if not isinstance(tensors, torch.Tensor):
                tensors = list(tensors)
            capture = _Capture()
            operations: Any = torch
            foreach_norm = operations._foreach_norm

            def keep(group: Sequence[Any], order: Any = 2, *more: Any, **named: Any) -> Any:
                norms = foreach_norm(group, order, *more, **named)
                # Norms in half precision overflow at 65504: those are measured again in float32.
                if order == 2 and all(norm.dtype is not torch.float16 for norm in norms):
                    capture.norms.update(zip(map(id, group), norms, strict=False))
                return norms

            operations._foreach_norm = keep
            try:
                capture.total = original(tensors, norm_type, *args, **kwargs)
            finally:
                operations._foreach_norm = foreach_norm
            self._last = capture
            return capture.total

        return get_total_norm

    def _wrap_clip(self, original: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        def clip_grads_with_norm_(
            parameters: Any, max_norm: float, total_norm: Any, *args: Any, **kwargs: Any
        ) -> Any:
            if torch.compiler.is_compiling() or not self._enabled():
                return original(parameters, max_norm, total_norm, *args, **kwargs)
            if not isinstance(parameters, torch.Tensor):
                parameters = list(parameters)
            try:
                found = [parameters] if isinstance(parameters, torch.Tensor) else parameters
                capture, self._last = self._last, _Capture()
                norms = capture.norms if capture.total is total_norm else {}
                self._on_clip(found, Clip(float(max_norm), norms))
            except Exception as error:
                GUARD.note("clipping", error)
            return original(parameters, max_norm, total_norm, *args, **kwargs)

        return clip_grads_with_norm_
