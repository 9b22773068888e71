"""How far running statistics (BatchNorm) have moved. Fed by the engine; asked by the rule on
evaluations, which are what stale statistics spoil."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.block import F64
from nanwatch_server.detect.state import Stateful

BUFFERS = "buffer_abs_max_layer"
SUFFIX = "running_var"
"""Name of the buffer by which batch normalisation scales in evaluation."""


class RunningStatistics(Stateful):
    """Lowest and newest running variance of each normalisation layer."""

    STATE = ("names", "lowest", "newest")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lowest: list[float] = []
        self.newest: list[float] = []

    def read(self, names: tuple[str, ...], values: F64) -> None:
        """Reports of buffers by name, f64[names, n]."""
        for name, row in zip(names, values, strict=True):
            row = row[np.isfinite(row) & (row > 0)]
            if not name.endswith(SUFFIX) or not row.size:
                continue
            if name not in self.names:
                self.names.append(name)
                self.lowest.append(float(row.min()))
                self.newest.append(float(row[-1]))
                continue
            at = self.names.index(name)
            self.lowest[at] = min(self.lowest[at], float(row.min()))
            self.newest[at] = float(row[-1])

    def drift(self) -> tuple[float, str]:
        """Largest newest over lowest variance, and its layer; (1, "") without any."""
        ratios = [new / low for new, low in zip(self.newest, self.lowest, strict=True)]
        if not ratios:
            return 1.0, ""
        at = int(np.argmax(ratios))
        return ratios[at], self.names[at]
