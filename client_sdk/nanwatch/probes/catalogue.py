"""The list of further probes, one line each. `probes.observer` makes one of each per run."""

from __future__ import annotations

from nanwatch.forensics.probe import Forensics
from nanwatch.probes.buffers import Buffers
from nanwatch.probes.calls import Calls
from nanwatch.probes.discarded import DiscardProbe
from nanwatch.probes.kept_gradients import KeptGradients
from nanwatch.probes.logits import Logits
from nanwatch.probes.margins import Margins
from nanwatch.probes.moments import Moments
from nanwatch.probes.policy import Policies
from nanwatch.probes.probe import Probe
from nanwatch.probes.q_values import QValues
from nanwatch.probes.repaired import Repaired
from nanwatch.probes.sampling import Sampling
from nanwatch.probes.system import System
from nanwatch.probes.unrolled import Unrolled
from nanwatch.probes.updates import Updates

PROBES: tuple[type[Probe], ...] = (
    KeptGradients,
    Updates,
    Moments,
    Buffers,
    System,
    Calls,
    DiscardProbe,
    QValues,
    Sampling,
    Logits,
    Margins,
    Policies,
    Forensics,
    Repaired,
    Unrolled,
)
