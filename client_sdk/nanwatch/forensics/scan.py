"""Which parameters and buffers are not finite: one fused pass, read without waiting.

Run on trouble, and once in each traced attempt. Training thread; `bad` on the background thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nanwatch.control.holding import largest, local
from nanwatch.forensics.names import Names
from nanwatch.probes.buffers import RUNNING
from nanwatch.probes.discovery import layer_of
from nanwatch.probes.tensors import EMPTY, Numbers, norms


@dataclass(slots=True)
class Scan:
    """Greatest absolute values of tensors on their way to the host."""

    parameters: list[str]
    buffers: list[str]
    numbers: Numbers
    trainable: frozenset[str] = frozenset()
    """Parameters that an update can poison."""

    def ready(self) -> bool:
        """True if reading does not wait."""
        return self.numbers.ready()

    def bad_parameters(self) -> list[str]:
        """Names of parameters with NaN or Inf, in order."""
        found = zip(self.parameters, self.numbers.get(), strict=False)
        return [name for name, value in found if not math.isfinite(value)]

    def bad_buffers(self) -> list[str]:
        """Names of buffers with NaN, and of running statistics with Inf; elsewhere it is a mask."""
        values = self.numbers.get()[len(self.parameters) :]
        return [
            name
            for name, value in zip(self.buffers, values, strict=False)
            if value != value or (math.isinf(value) and name.rpartition(".")[2] in RUNNING)
        ]

    def bad_layers(self) -> list[str]:
        """Layers that own a bad parameter, in order."""
        return list(dict.fromkeys(layer_of(name) for name in self.bad_parameters()))

    @property
    def everywhere(self) -> bool:
        """True if all that can be trained is bad: nothing can be told from the names."""
        return len(self.trainable) > 1 and self.trainable <= set(self.bad_parameters())


def scan(names: Names) -> Scan:
    """Start looking at every parameter and buffer."""
    parameters, buffers = _numeric(names.parameters), _numeric(names.buffers)
    tensors = [t for _, t in [*parameters, *buffers]]
    numbers = norms(largest(tensors)) if tensors else EMPTY
    trainable = frozenset(name for name, parameter in parameters if parameter.requires_grad)
    return Scan([n for n, _ in parameters], [n for n, _ in buffers], numbers, trainable)


def _numeric(named: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    kept: list[tuple[str, Any]] = []
    for name, tensor in named:
        if tensor is None or tensor.is_meta or tensor.is_quantized:
            continue
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        if local(tensor).numel():
            kept.append((name, tensor))
    return kept
