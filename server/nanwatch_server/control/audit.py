"""Checks the hash chain of audit rows as the API and exports give them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nanwatch_server.domain.audit_chain import GENESIS, first_break


def verify_chain(
    rows: Iterable[Mapping[str, Any]], *, previous: str = GENESIS, first: int = 1
) -> int | None:
    """Number (`id`) of the first row, oldest first, that does not fit; None if all fit.

    `previous` and `first` let a part be checked: the hash before it and the number it begins with.
    A changed, missing, added or reordered row is found; rows cut off the end are not, unless the
    newest hash was kept elsewhere.
    """
    return first_break(rows, previous=previous, first=first)
