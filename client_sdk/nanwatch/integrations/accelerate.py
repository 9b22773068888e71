"""accelerate: `NanwatchTracker` for `Accelerator(log_with=NanwatchTracker(…))`.

`accelerator.backward`, `clip_grad_norm_` and the wrapped optimizers and schedulers are seen
without it; it adds the configuration given to `init_trackers` and what `accelerator.log` logs.
"""

from __future__ import annotations

from typing import Any

from accelerate.tracking import GeneralTracker

from nanwatch.config import flatten
from nanwatch.integrations.base import active, facts, forward, join, never_raises
from nanwatch.run import NullRun


class NanwatchTracker(GeneralTracker):
    """A tracker that logs to the run of this process.

    Joins that run, or starts one by `nanwatch.init(**options)`; only that may raise.
    """

    name = "nanwatch"
    requires_logging_directory = False

    def __init__(self, **options: Any) -> None:
        self._run = join(options)
        super().__init__()

    @property
    def tracker(self) -> NullRun:
        """The run: `accelerator.get_tracker("nanwatch").tracker.log(reward=…)`."""
        return active() or self._run

    @never_raises
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Configuration of the training, for the page and the diagnosis."""
        facts("accelerate", flatten(values))

    @never_raises
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Numbers of `accelerator.log`."""
        forward(values, step=step)

    def finish(self) -> None:
        """Nothing: the run may outlive the Accelerator, and ends with the process."""
