"""Reads numbers from tensors without making the training thread wait for a device.

On the CPU a few values are read at once: that is cheaper than deferring it. On an accelerator it is
copied to pinned memory behind an event, which the background thread polls.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

FEW = 32
"""So many numbers on the CPU are read at once: that takes less than keeping them for later."""


class Capture:
    """Whether a CUDA graph is being captured: until then nobody may ask the device anything.

    Even an event that another thread asks for would make the user's capture fail.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.on = False

    def set(self, on: bool) -> None:
        """A capture begins or has ended; waits for a question that is being asked."""
        with self.lock:
            self.on = on

    def after_fork(self) -> None:
        """Begin anew in a child: a thread that is gone may hold the lock."""
        self.lock, self.on = threading.Lock(), False


CAPTURE = Capture()


class Numbers:
    """A small vector of numbers, here already or still on its way."""

    __slots__ = ("_event", "_tensor", "_values")

    def __init__(
        self, values: Sequence[float] | None, tensor: Any = None, event: Any = None
    ) -> None:
        # A tuple where it is ours to choose: the collector of cycles does not follow tuples of
        # numbers, and thousands of them wait for the background thread.
        self._values = values
        self._tensor: Any = tensor
        self._event: Any = event

    def ready(self) -> bool:
        """True if `get` does not wait."""
        if self._values is not None or self._event is None:
            return True
        with CAPTURE.lock:
            return not CAPTURE.on and self._event.query()

    def here(self) -> bool:
        """True if the numbers are on the host already, so that `get` costs next to nothing."""
        return self._values is not None or self._event is None

    def get(self) -> Sequence[float]:
        """The numbers. Waits for the device if it must: background thread only."""
        if self._values is None:
            self._read()
        assert self._values is not None
        return self._values

    def _read(self) -> None:
        """Any thread may, and two may at once: what others look at is set before what they
        would use instead is dropped."""
        if self._event is None:
            if (tensor := self._tensor) is not None:  # else another thread was quicker
                self._values = tuple(tensor.tolist())
                self._tensor = None
            return
        with CAPTURE.lock:  # giving pinned memory back asks the device, too
            if self._values is None:
                self._event.synchronize()
                self._values = self._tensor.tolist()
                self._tensor = None
                self._event = None


EMPTY = Numbers(())

Number = float | Numbers
"""A number that is on the host already, or one of its own kind that is on its way."""


def number_of(number: Number) -> float:
    """As a number; waits for a device if it must: background thread."""
    return number.get()[0] if isinstance(number, Numbers) else number


def is_here(number: Number) -> bool:
    """True if `number_of` does not wait."""
    return not isinstance(number, Numbers) or number.ready()


class Item(Numbers):
    """One of several numbers that travel together."""

    __slots__ = ("_all", "_index")

    def __init__(self, numbers: Numbers, index: int) -> None:
        super().__init__(None)
        self._all, self._index = numbers, index

    def ready(self) -> bool:
        """True if `get` does not wait."""
        return self._all.ready()

    def here(self) -> bool:
        """True if the number is on the host already."""
        return self._all.here()

    def get(self) -> Sequence[float]:
        """The number, as a list of one."""
        return [self._all.get()[self._index]]


class Picked(Numbers):
    """Some of several numbers that travel together."""

    __slots__ = ("_all", "_indices")

    def __init__(self, numbers: Numbers, indices: Sequence[int]) -> None:
        super().__init__(None)
        self._all, self._indices = numbers, indices

    def ready(self) -> bool:
        """True if `get` does not wait."""
        return self._all.ready()

    def here(self) -> bool:
        """True if the numbers are on the host already."""
        return self._all.here()

    def get(self) -> Sequence[float]:
        """The numbers at the indices, in their order."""
        found = self._all.get()
        return [found[index] for index in self._indices]


class Joined(Numbers):
    """Numbers of several vectors, one after another."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Numbers]) -> None:
        super().__init__(None)
        self._parts = parts

    def ready(self) -> bool:
        """True if `get` does not wait."""
        return all(part.ready() for part in self._parts)

    def here(self) -> bool:
        """True if all of them are on the host already."""
        return all(part.here() for part in self._parts)

    def get(self) -> Sequence[float]:
        """All of them."""
        return [value for part in self._parts for value in part.get()]


def read(tensor: Any) -> Numbers:
    """Numbers of a one-dimensional tensor that nobody else will change."""
    if tensor.is_cpu:
        if tensor.numel() > FEW:
            return Numbers(None, tensor.detach())  # whoever asks for them makes them
        return Numbers(tuple(tensor.tolist()))
    return _defer(tensor.detach())


def _defer(tensor: Any) -> Numbers:
    import torch

    if tensor.device.type != "cuda":
        # Other devices have no portable event: pay for one copy.
        return Numbers(tensor.to("cpu").tolist())
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(tensor.device))
    return Numbers(None, host, event)


def read_all(tensors: Sequence[Any]) -> Numbers:
    """Numbers of many one-element tensors by one copy."""
    if not tensors:
        return EMPTY
    if len(tensors) == 1:
        only = tensors[0]
        if only.is_cpu:
            return Numbers((only.item(),))
        return read(only.detach().reshape(1))
    if all(t.is_cpu for t in tensors):
        return Numbers(tuple(t.item() for t in tensors))
    import torch

    if any(t.is_cpu for t in tensors):
        # Bringing them together on the device would wait for it.
        return Joined([read_all([t]) for t in tensors])
    device = tensors[0].device
    flat = [t.detach().reshape(()).to(device, torch.float32) for t in tensors]
    return _defer(torch.stack(flat))


def norms(tensors: Sequence[Any]) -> Numbers:
    """Zero-dimensional norms as one vector, in order, by one copy for all."""
    if not tensors:
        return EMPTY
    import torch

    first = tensors[0]
    if all(t.dtype is first.dtype and t.device == first.device for t in tensors):
        return read(torch.stack(list(tensors)))
    if len({t.device.type for t in tensors}) > 1:
        return Joined([read_all([t]) for t in tensors])
    wide = any(t.dtype is torch.float64 for t in tensors)
    dtype = torch.float64 if wide else torch.float32
    return read(torch.stack([t.to(first.device, dtype) for t in tensors]))


def is_tensor(value: Any) -> bool:
    """True for a torch tensor; never imports torch."""
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def moments(tensor: Any) -> Numbers:
    """Mean, standard deviation (population), least and greatest value of a tensor.

    NaN in the tensor makes all four NaN; an empty tensor gives no numbers.
    """
    import torch

    if tensor.numel() == 0:
        return EMPTY
    flat = tensor.detach().reshape(-1)
    if not flat.is_floating_point():
        flat = flat.to(torch.float32)
    elif flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    std, mean = torch.std_mean(flat, correction=0)
    low, high = torch.aminmax(flat)
    return read(torch.stack([mean, std, low, high]))


def capturing() -> bool:
    """True while a CUDA graph is recorded: what we queue now would run at every replay."""
    import torch

    return bool(torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())
