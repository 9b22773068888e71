"""What every store promises, and the errors it raises; `domain.ports` has the methods.

1. A `write()` block is one transaction: all or nothing, on disk when the block ends.
2. The same batch twice changes nothing the second time: one high-water mark per lane, for ever.
3. Values come back bit for bit: NaN payloads, infinities, -0.0 and subnormals included.
4. The audit is a hash chain: a changed or missing row is found by `audit_break`.
5. One server per data directory.
"""

from __future__ import annotations


class StoreError(RuntimeError):
    """Something is wrong with the data directory; the text says what and what to do."""


class StoreBusyError(StoreError):
    """Another server holds the data directory."""


class StoreUnavailableError(StoreError):
    """The database cannot be written now (disk full, locked, read-only): try again later."""
