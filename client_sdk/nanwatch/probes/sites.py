"""The places in the user's code that call backward, and what each of them was found to serve.

A graph walk per place, not per call. Training thread only; `observer` asks it, and
`discarded` for the places that call models.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import CodeType
from typing import Any

SITES_MAX = 4_096
SITE_DEPTH = 3
FOREIGN_MAX = 4_096

SiteKey = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Site:
    """One place: code objects and positions of the three frames outside torch.

    Three, because helpers such as `def update(optimizer, loss)` serve several losses.
    """

    codes: tuple[CodeType, ...]
    """Kept, so that nothing else can get their ids while they stand in the key."""
    reached: frozenset[int] | None = None
    """Optimizers that a backward pass from here serves; None: look again."""
    shared: bool = False
    """Serves several optimizers in turn: walk the graph every time."""
    shared_out: bool = False
    """Its micro-batches' losses are parts of one, see `frameworks`."""


class Sites:
    """All places met so far, bounded."""

    def __init__(self) -> None:
        self._sites: dict[SiteKey, Site] = {}
        self._ours: dict[int, tuple[CodeType, bool]] = {}
        """`id(code)` → (the code, whether it is torch's or ours)."""

    def here(self, skip: int) -> Site:
        """The place above the frame that lies `skip` calls above this one.

        A code object's own hash reads all of its contents: ids are compared instead.
        """
        key: list[int] = []
        codes: list[CodeType] = []
        ours = self._ours
        frame = sys._getframe(skip)
        while frame is not None and len(codes) < SITE_DEPTH:
            code = frame.f_code
            known = ours.get(id(code))
            if known is None:
                known = self._classify(code, frame.f_globals)
            if not known[1]:
                key += (id(code), frame.f_lasti)
                codes.append(code)
            frame = frame.f_back
        found = self._sites.get(tuple(key))
        if found is not None:
            return found
        if len(self._sites) >= SITES_MAX:
            self._sites.clear()
        site = self._sites[tuple(key)] = Site(tuple(codes))
        return site

    def _classify(self, code: CodeType, variables: dict[str, Any]) -> tuple[CodeType, bool]:
        if len(self._ours) >= FOREIGN_MAX:
            self._ours.clear()
        name = str(variables.get("__name__", ""))
        known = self._ours[id(code)] = (code, name.startswith(("torch.", "nanwatch.")))
        return known

    def forget(self) -> None:
        """Optimizers came or went: what a place serves must be found again."""
        for site in self._sites.values():
            site.reached = None
