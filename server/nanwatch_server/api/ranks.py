"""What the run page shows of each rank: who is there, who lags, whose numbers went bad first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nanwatch_server.domain.models import RankState
from nanwatch_server.live.presence import RankPresence

MISSING_LISTED_MAX = 1024
"""Ranks up to this one are listed also if they never reported; those behind it once they do."""

_ORDER = {"loss": 0, "logged": 0, "watched": 0, "buffer": 0, "gradient": 1}
"""Within a step the forward pass comes before the backward pass, that before the update."""


def first_bad(ranks: Sequence[RankState]) -> set[int]:
    """Ranks that met a non-finite value first: smallest step, then the earliest part of it.

    Several if they met it at the same point: gradients are shared, so no order can be told.
    """
    bad = {
        r.rank: (r.bad_step, _ORDER.get(r.bad_where, 2)) for r in ranks if r.bad_step is not None
    }
    earliest = min(bad.values(), default=None)
    return {rank for rank, place in bad.items() if place == earliest}


def ranks_json(
    known: Sequence[RankState], presence: Mapping[int, RankPresence]
) -> list[dict[str, Any]]:
    """One entry for each rank of the training, also for those that never came; [] for one alone."""
    by_rank = {one.rank: one for one in known}
    newest = max(known, key=lambda one: one.last_seen_at, default=None)
    if newest is None:
        return []
    here = [one for one in known if one.rank < newest.world]
    first, lead = first_bad(here), _step(by_rank.get(0), presence.get(0))
    entries: list[dict[str, Any]] = []
    for rank in range(newest.world):
        state, live = by_rank.get(rank), presence.get(rank)
        if state is None and rank >= MISSING_LISTED_MAX:
            continue
        step = _step(state, live)
        entries.append(
            {
                "rank": rank,
                "host": state.host if state else "",
                "state": _state(state, live),
                "last_seen_at": max(
                    state.last_seen_at if state else 0.0, live.last_seen_at if live else 0.0
                ),
                "last_step": step,
                "lag": max(lead - step, 0) if state else 0,
                "bad_step": state.bad_step if state else None,
                "bad_where": state.bad_where if state else "",
                "first_bad": rank in first,
            }
        )
    return entries


def _step(state: RankState | None, live: RankPresence | None) -> int:
    return max(state.last_step if state else -1, live.last_step if live else -1)


def _state(state: RankState | None, live: RankPresence | None) -> str:
    if state is None:
        return "missing"
    if live is not None and live.connections > 0:
        return "connected"
    return "ended" if state.ended_at is not None else "lost"
