"""The hash chain of the audit, as pure functions of plain rows; the same form as the store writes.

`control/audit.py` checks exported or served rows with it, without the database.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

GENESIS = ""
"""What stands for the hash before the first row."""

AUDITED = ("at", "actor", "role", "via", "action", "run_id", "target", "detail")
"""Fields of an audit row that its hash covers, in this order, besides the hash before."""


def audit_hash(previous: str, row: Mapping[str, Any]) -> str:
    """SHA-256 over the previous hash and the row in one canonical form.

    `detail` may be the stored text or what it decodes to.
    """
    fields = [row[name] for name in AUDITED]
    if not isinstance(fields[-1], str):
        fields[-1] = canonical_json(fields[-1])
    text = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def first_break(
    rows: Iterable[Mapping[str, Any]], *, previous: str = GENESIS, first: int = 1
) -> int | None:
    """Number (`id`) of the first row, oldest first, that does not fit; None if all fit."""
    expected = first
    for row in rows:
        if row["id"] != expected or audit_hash(previous, row) != row["hash"]:
            return row["id"]
        previous, expected = row["hash"], expected + 1
    return None


def canonical_json(value: Any) -> str:
    """JSON with sorted keys; a non-finite number becomes text, as everywhere in JSON."""
    return json.dumps(_plain(value), sort_keys=True, allow_nan=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
