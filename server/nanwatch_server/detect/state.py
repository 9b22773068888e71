"""Turning the state of rules into plain values and back, for all that must survive a restart.

Arrays travel as dtype, shape and bytes; nothing here is ever pickled.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

_KINDS = frozenset("fib")


class Stateful:
    """An object whose attributes named in `STATE` are everything it must remember."""

    STATE: ClassVar[tuple[str, ...]] = ()

    def dump(self) -> dict[str, Any]:
        """The state as plain values."""
        return {name: plain(getattr(self, name)) for name in self.STATE}

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` gave. Nested objects are filled in place.

        What an older server did not know keeps the value of a fresh object.
        """
        for name in self.STATE:
            if name not in data:
                continue
            setattr(self, name, _unpack(data[name], getattr(self, name)))


def plain(value: Any) -> Any:
    """A value of a state as numbers, words, bytes, lists and dictionaries."""
    if isinstance(value, Stateful):
        return value.dump()
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": list(value.shape), "data": value.tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def array_of(data: dict[str, Any]) -> np.ndarray:
    """The array of which `plain` made this. Raises `ValueError` for one of other than numbers."""
    dtype = np.dtype(data["dtype"])
    if dtype.kind not in _KINDS:
        raise ValueError(f"state array of kind {dtype.kind!r}")
    return np.frombuffer(data["data"], dtype).reshape(data["shape"]).copy()


def _unpack(data: Any, like: Any) -> Any:
    if isinstance(like, Stateful):
        like.load(data)
        return like
    if isinstance(like, np.ndarray):
        return array_of(data)
    if isinstance(like, list) and like and isinstance(like[0], (Stateful, np.ndarray, list)):
        return [_unpack(item, old) for item, old in zip(data, like, strict=True)]
    if isinstance(like, tuple):
        return tuple(data)
    return data
