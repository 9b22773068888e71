"""How the C library gives memory back. `app` sets it once, before there are other threads.

numpy takes and frees a few MiB for each chart, each batch and each round of the rules. By default
glibc gives the top of the heap back at once, from 128 KiB on, so that every time the same pages
must be asked for again and zeroed: about 400 page faults a chart.
"""

from __future__ import annotations

import ctypes

KEPT_BYTES = 64 << 20
"""Free memory at the top of the heap that is kept."""

OWN_PAGES_BYTES = 32 << 20
"""Size from which on an array has pages of its own: the most that every glibc takes, and would come
to by itself."""

ARENAS = 1
"""Heaps. glibc would make eight for every core, each with free memory of its own, and of all but
the first it gives a piece of 64 MiB back whatever the threshold says (with four of them fifty wide
charts took twice as long)."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of `mallopt(3)`."""


def keep_pages() -> bool:
    """Keep what was freed for the next time. False where the C library knows no such thing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS; Windows has no library of that name
        return False
    mallopt(_ARENA_MAX, ARENAS)
    kept = mallopt(_MMAP_THRESHOLD, OWN_PAGES_BYTES)
    return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES) and kept)
