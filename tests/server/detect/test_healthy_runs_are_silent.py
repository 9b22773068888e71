"""False alarms are the open position: trainings that go well must not be warned about."""

from __future__ import annotations

import numpy as np
import pytest
from families import HEALTHY, alarms, watch


@pytest.mark.parametrize("name", HEALTHY)
def test_no_warning_in_good_health(name: str) -> None:
    for seed in range(5):
        trace = HEALTHY[name](np.random.default_rng(seed), np.arange(2200))
        found = alarms(watch(trace))
        assert not found, f"seed {seed}: {found[0].rule} at {found[0].step}: {found[0].title}"
