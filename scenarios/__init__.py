"""Five incidents as small real trainings, each with a sick and a cured variant.

`nanwatch demo NAME` runs them, the tests and benchmarks share them. Standard library only here.
"""

from __future__ import annotations

from typing import NamedTuple


class Scenario(NamedTuple):
    """What a person should know before watching it."""

    incident: str
    summary: str


SCENARIOS: dict[str, Scenario] = {
    "sac": Scenario("002", "a soft actor critic whose rewards of millions end in a NaN policy"),
    "gru": Scenario("000", "a GRU without clipping whose loop through time grows until it is NaN"),
    "ssm": Scenario("001", "a state-space model that survives its first fold and not the second"),
    "rollout": Scenario("003", "256 steps of backpropagation, until every update is skipped"),
    "replay": Scenario("004", "a continual learner that chases its own stored logits to NaN"),
}
