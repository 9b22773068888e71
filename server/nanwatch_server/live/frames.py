"""The binary frame of `docs/protocol.md` section 3: JSON header, 8-aligned float64 blocks. Pure."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


class FrameWriter:
    """Collects blocks, then makes the bytes. Offsets count from the end of the header."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._blocks: list[bytes | memoryview] = []
        self._size = 0

    def add(self, values: ArrayLike) -> int:
        """Append a block of little-endian float64; returns its offset in bytes."""
        # Without a copy where they are as they shall be: the frame is joined once.
        block = np.ascontiguousarray(values, "<f8")
        offset, self._size = self._size, self._size + block.nbytes
        self._blocks.append(block.data if block.ndim == 1 else block.tobytes())
        return offset

    def finish(self, **header: Any) -> bytes:
        """The frame. A non-finite number in the header raises `ValueError`."""
        text = json.dumps(
            {"type": self._kind, **header}, allow_nan=False, separators=(",", ":")
        ).encode()
        text += b" " * (-len(text) % 8)
        return b"".join([struct.pack("<II", len(text), 0), text, *self._blocks])


def plain(kind: str, **header: Any) -> bytes:
    """A frame without blocks."""
    return FrameWriter(kind).finish(**header)


def read(frame: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and blocks: for tests and for reading frames in Python."""
    size, zero = struct.unpack_from("<II", frame)
    if zero or size % 8 or 8 + size > len(frame):
        raise ValueError(f"expected a frame, got {len(frame)} bytes with header length {size}")
    return json.loads(frame[8 : 8 + size]), memoryview(frame)[8 + size :]


def block(blocks: memoryview, offset: int, *shape: int) -> np.ndarray:
    """The float64 block at `offset`."""
    count = int(np.prod(shape))
    return np.frombuffer(blocks, "<f8", count, offset).reshape(shape)
