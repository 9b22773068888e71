"""Updates with gradients that are not finite are held: `skip_nonfinite` for scripts.

What a run does by itself (`guard="skip"`) is `control.skip_guard`.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

from nanwatch.contract.limits import to_name
from nanwatch.guard import GUARD
from nanwatch.guards.tally import TALLY
from nanwatch.guards.values import above_0

logger = logging.getLogger("nanwatch")

STREAK_LIMIT = 50
"""Updates held in a row after which `skip_nonfinite` says so aloud (incident 003 held for ever)."""


class SkipNonfinite:
    """Made by `skip_nonfinite`. A context manager too: `remove` at its end."""

    def __init__(self, optimizer: Any, streak_limit: int, agree: bool, name: str) -> None:
        self.skipped = 0
        """Updates held so far."""
        self.streak = 0
        """Updates held in a row just now."""
        self._limit = streak_limit
        self._agree = agree
        self._name = to_name(name)
        self._hold: Any = None
        from nanwatch.probes import discovery

        # Those of Accelerate and Lightning only pass calls on and have no hooks of their own.
        while (inner := discovery.wrapped_optimizer(optimizer)) is not None and not hasattr(
            optimizer, "_optimizer_step_pre_hooks"
        ):
            optimizer = inner
        if not hasattr(optimizer, "register_step_pre_hook"):
            raise TypeError(
                "skip_nonfinite expects an optimizer of torch, which has register_step_pre_hook; "
                f"got {type(optimizer).__name__}"
            )
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        try:
            self._decide(optimizer)
        except Exception as error:
            GUARD.note("skip_nonfinite", error)

    def _decide(self, optimizer: Any) -> None:
        from nanwatch.control import holding

        self._put_back()
        gradients = holding.gradients_of(optimizer)
        flag = holding.nonfinite_flag(gradients)
        if self._agree:
            flag = _worst_of_all_ranks(flag)
        if flag is None or not bool(flag):
            self.streak = 0
            return
        self.skipped += 1
        self.streak += 1
        TALLY.add(self._name, 1)
        self._hold = holding.Hold(optimizer)
        self._hold.begin()
        if self.streak % self._limit == 0:
            self._say()

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        try:
            self._put_back()
        except Exception as error:
            GUARD.note("skip_nonfinite", error)

    def _put_back(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.end()

    def _say(self) -> None:
        text = f"{self._name} held {self.streak} updates in a row: nothing is being learned"
        logger.warning("nanwatch: %s", text)
        from nanwatch.run import current

        current().mark("note", text, held=self.streak)

    def remove(self) -> None:
        """Let every update pass again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> SkipNonfinite:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def skip_nonfinite(
    optimizer: Any,
    *,
    streak_limit: int = STREAK_LIMIT,
    rank_consistent: bool = False,
    name: str = "skip_nonfinite",
) -> SkipNonfinite:
    """Hold every step of `optimizer` whose gradients are not finite, so that it changes nothing.

    Weights, momentum, weight decay and step counts stay as they are; the gradients are there again
    after the step. Costs one wait for the device a step. Steps with a closure (LBFGS) make their
    gradients later than it can look. After `streak_limit` held updates in a row, and every such
    number after it, it warns. `rank_consistent=True` makes all ranks of the default process group
    decide alike by an all-reduce in each step: needed where every rank sees other gradients
    (sharded models), not with DistributedDataParallel.
    """
    above_0("streak_limit", streak_limit, "a whole number")
    return SkipNonfinite(optimizer, streak_limit, rank_consistent, name)


def _worst_of_all_ranks(flag: Any) -> Any:
    import torch
    import torch.distributed as distributed

    if not distributed.is_available() or not distributed.is_initialized():
        return flag
    flag = torch.zeros(()) if flag is None else flag
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return flag
