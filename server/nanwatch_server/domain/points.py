"""Points in columns, decoded once for all who read them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.domain.models import Series


class Points(NamedTuple):
    """Points of k series that share n steps."""

    series: tuple[Series, ...]
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    """f64[k, n]."""
