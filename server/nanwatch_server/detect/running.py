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
    """Newest running variance of each normalisation layer, and the one to compare it with."""

    STATE = ("names", "reference", "newest")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.reference: list[float] = []
        """As of the best evaluation; the first report before there is one."""
        self.newest: list[float] = []

    def read(self, names: tuple[str, ...], values: F64) -> None:
        """Reports of buffers by name, f64[names, n]."""
        for name, row in zip(names, values, strict=True):
            row = row[np.isfinite(row) & (row > 0)]
            if not name.endswith(SUFFIX) or not row.size:
                continue
            if name not in self.names:
                self.names.append(name)
                self.reference.append(float(row[0]))
                self.newest.append(float(row[-1]))
            else:
                self.newest[self.names.index(name)] = float(row[-1])

    def compare_from_here(self) -> None:
        """What is newest now is what later reports are compared with."""
        self.reference = list(self.newest)

    def drift(self) -> tuple[float, str]:
        """Largest newest over reference variance, and its layer; (1, "") without any."""
        ratios = [new / old for new, old in zip(self.newest, self.reference, strict=True)]
        if not ratios:
            return 1.0, ""
        at = int(np.argmax(ratios))
        return ratios[at], self.names[at]

    def restart(self) -> None:
        """Another fit: other statistics."""
        self.__init__()
