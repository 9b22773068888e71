"""Helpers that a script calls to keep bad numbers out: each counts what it changed.

They work with no run started. While a run is watched, what they repaired in an attempt is
recorded as the series `repaired` (layer: the guard's name), so that the page can say that the
training goes on with repaired numbers. Counting never waits for a device, except where it is said.
Inside torch.compile, torch.func, tracing and CUDA graphs the guards work but do not count: there
are no numbers to count yet.
"""

from nanwatch.guards.batchnorm import FrozenBatchNorm, freeze_batchnorm
from nanwatch.guards.bptt import TruncatedBPTT, bptt_windows, detach
from nanwatch.guards.numbers import clamp_, sanitize
from nanwatch.guards.rows import finite_rows, is_finite
from nanwatch.guards.skip import SkipNonfinite, skip_nonfinite
from nanwatch.guards.tally import counts

__all__ = [
    "FrozenBatchNorm",
    "SkipNonfinite",
    "TruncatedBPTT",
    "bptt_windows",
    "clamp_",
    "counts",
    "detach",
    "finite_rows",
    "freeze_batchnorm",
    "is_finite",
    "sanitize",
    "skip_nonfinite",
]
