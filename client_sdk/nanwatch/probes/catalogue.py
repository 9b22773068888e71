"""The list of further probes, one line each. `probes.observer` makes one of each per run."""

from __future__ import annotations

from nanwatch.probes.probe import Probe

PROBES: tuple[type[Probe], ...] = ()
