"""The hash chain of the audit, as pure functions of plain rows.

The store computes `audit_hash` when it appends a row; `control/audit.py` checks the chain with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

GENESIS = "0" * 64
"""What stands for the hash before the first row."""

CHAINED_FIELDS = ("at", "actor", "role", "via", "action", "run_id", "target", "detail")
"""Fields of an `AuditRow` that the hash covers, besides the hash of the row before."""


def canonical(row: Mapping[str, Any]) -> bytes:
    """The row as bytes, the same for the same content: sorted keys, no spaces, UTF-8.

    `at` is written with `repr`, which gives back the same float; numbers inside `detail` that are
    not finite are refused, because a row holds metric values as text.
    """
    picked = {name: row[name] for name in CHAINED_FIELDS}
    picked["at"] = repr(float(picked["at"]))
    picked["detail"] = picked["detail"] or {}
    text = json.dumps(
        picked, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def audit_hash(previous: str, row: Mapping[str, Any]) -> str:
    """SHA-256 over the hash of the row before (`GENESIS` for the first) and this row."""
    return hashlib.sha256(previous.encode() + canonical(row)).hexdigest()
