"""Numbers of one tensor, in pieces of bounded size: extremes, norm, what is not finite, dead rows.

Every format of numbers that torch converts to float is looked into; what cannot be is said in
`skipped`. Called in a child by `reading`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nanwatch.forensics.checkpoint.facts import (
    HISTOGRAM_BINS,
    HISTOGRAM_HIGH,
    HISTOGRAM_LOW,
    RecurrentFacts,
    TensorFacts,
)

PIECE = 1 << 22
"""Elements converted at a time: 32 MB in double precision."""

SAMPLE = 1 << 16
"""Elements of a tensor that its histogram is made of."""

HALF_MAX = 65504.0
BAD_ROWS_SHOWN = 8
EIGENVALUES_MOST = 768
"""Size of a recurrent block beyond which only its spectral norm is estimated."""

_BUFFERS = ("running_mean", "running_var")
_RECURRENT = re.compile(r"weight_hh(_l\d+)?(_reverse)?$")


def values_of(tensor: Any) -> tuple[Any, str]:
    """(the stored numbers as a dense tensor of floats, why not if there is none)."""
    import torch

    if tensor.is_meta:
        return None, "on the meta device: there are no numbers in it"
    if tensor.is_nested:
        return None, "nested: not looked into"
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.layout is torch.sparse_coo:
        tensor = tensor._values()
    elif tensor.layout is not torch.strided:
        tensor = tensor.values()
    if tensor.is_quantized:
        # The numbers themselves are integers: only scales can go bad.
        by_channel = tensor.qscheme() in (
            torch.per_channel_affine,
            torch.per_channel_affine_float_qparams,
        )
        scales = tensor.q_per_channel_scales() if by_channel else torch.tensor(tensor.q_scale())
        return scales.double(), "quantised: only its scales were looked at"
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if not tensor.is_floating_point():
        return None, ""
    try:
        tensor.new_zeros(0).to(torch.float32)
    except (RuntimeError, TypeError, NotImplementedError):
        return None, f"{tensor.dtype}: torch cannot convert it"
    return _stored(tensor.detach()), ""


def _stored(tensor: Any) -> Any:
    """The tensor, or what its storage holds if it shows the same numbers again and again."""
    room = tensor.untyped_storage().nbytes() // max(tensor.element_size(), 1)
    if tensor.numel() <= room:
        return tensor
    return tensor.new_zeros(0).set_(tensor.untyped_storage(), 0, (room,))


def pieces(tensor: Any) -> Iterator[tuple[Any, bool]]:
    """(rows × elements in float32 or 64, whether the rows are whole), at most PIECE elements."""
    import torch

    wide = torch.float64 if tensor.dtype is torch.float64 else torch.float32
    if tensor.ndim >= 2 and tensor.shape[0] and tensor.numel() // tensor.shape[0] <= PIECE:
        length = max(tensor.numel() // tensor.shape[0], 1)
        count = max(PIECE // length, 1)
        for start in range(0, tensor.shape[0], count):
            part = tensor[start : start + count]
            yield part.reshape(part.shape[0], -1).to(wide), True
    elif tensor.ndim >= 2 and tensor.numel() > PIECE:
        for part in tensor:
            for inner, _ in pieces(part):
                yield inner.reshape(1, -1), False
    elif tensor.numel():
        flat = tensor.reshape(-1)
        for start in range(0, flat.shape[0], PIECE):
            yield flat[start : start + PIECE].to(wide).reshape(1, -1), False


def measure(facts: TensorFacts, tensor: Any, zero_bias: Any = None) -> TensorFacts:
    """Fill `facts` with the numbers of `tensor`; `zero_bias` marks rows whose bias is zero."""
    values, facts.skipped = values_of(tensor)
    if values is None:
        facts.role = "other" if facts.skipped else "integer"
        return facts
    if facts.role == "weight" and facts.name.endswith(_BUFFERS):
        facts.role = "buffer"
    facts.elements = values.numel()
    if not facts.elements:
        return facts
    row, squares = 0, 0.0
    lows, highs = [], []
    for piece, whole in pieces(values):
        squares += _piece(facts, piece, whole, row, (lows, highs), zero_bias)
        row += piece.shape[0]
    facts.low = min(lows, default=0.0)
    facts.high = max(highs, default=0.0)
    facts.norm = squares**0.5
    facts.histogram = _histogram(values)
    return facts


def _piece(
    facts: TensorFacts,
    piece: Any,
    whole: bool,
    row: int,
    extremes: tuple[list[float], list[float]],
    zero_bias: Any,
) -> float:
    """Add one piece to `facts`; its sum of squares."""
    import torch

    low, high = torch.aminmax(piece, dim=1)
    if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
        bad = ~torch.isfinite(piece)
        facts.nan += int(torch.isnan(piece).sum())
        facts.positive_infinite += int((piece == float("inf")).sum())
        facts.negative_infinite += int((piece == -float("inf")).sum())
        if whole:
            rows = bad.any(dim=1).nonzero().flatten()
            facts.bad_rows_count += len(rows)
            facts.bad_rows = (facts.bad_rows + [row + int(r) for r in rows[:BAD_ROWS_SHOWN]])[
                :BAD_ROWS_SHOWN
            ]
        kept = piece[~bad]
        if kept.numel():
            extremes[0].append(float(kept.min()))
            extremes[1].append(float(kept.max()))
        piece = piece.masked_fill(bad, 0.0)
        facts.zeros -= int(bad.sum())
    else:
        extremes[0].append(float(low.min()))
        extremes[1].append(float(high.max()))
    facts.zeros += piece.numel() - int(torch.count_nonzero(piece))
    if float(piece.abs().max()) > HALF_MAX:
        facts.over_half += int((piece.abs() > HALF_MAX).sum())
    if whole:
        _rows(facts, low, high, piece.shape[1], row, zero_bias)
    norm = float(torch.linalg.vector_norm(piece, dtype=torch.float64))
    return norm * norm


def _rows(facts: TensorFacts, low: Any, high: Any, length: int, start: int, zero_bias: Any) -> None:
    facts.rows += len(low)
    zero = (low == 0) & (high == 0)
    if zero_bias is not None and facts.rows <= len(zero_bias):
        zero = zero & zero_bias[start : start + len(low)]
    facts.zero_rows += int(zero.sum())
    if length >= 4:
        facts.constant_rows += int(((low == high) & (low != 0)).sum())


def _histogram(values: Any) -> list[int]:
    import torch

    # Flattened as a whole only where that takes no copy.
    flat = values.reshape(-1) if values.is_contiguous() else next(pieces(values))[0].reshape(-1)
    stride = -(-flat.shape[0] // SAMPLE)
    sample = flat[::stride].to(torch.float64).abs()
    sample = sample[torch.isfinite(sample) & (sample > 0)]
    if not sample.numel():
        return []
    logs = sample.log10().clamp(HISTOGRAM_LOW, HISTOGRAM_HIGH)
    counts = torch.histc(logs, HISTOGRAM_BINS, HISTOGRAM_LOW, HISTOGRAM_HIGH)
    return [int(count) for count in counts]


# --- recurrent weights ---------------------------------------------------------------------------


def is_recurrent(name: str) -> bool:
    """True for the hidden-to-hidden weight of an RNN, GRU or LSTM of torch, by its name."""
    return _RECURRENT.search(name) is not None


def recurrent(title: str, tensor: Any) -> list[RecurrentFacts]:
    """Spectral norm and radius of each square block of a hidden-to-hidden weight."""
    import torch

    values, _ = values_of(tensor)
    if values is None or values.ndim != 2 or not values.shape[1]:
        return []
    blocks, left = divmod(values.shape[0], values.shape[1])
    if left or blocks not in (1, 3, 4):
        return []
    found = []
    for number in range(blocks):
        size = values.shape[1]
        block = values[number * size : (number + 1) * size].to(torch.float64)
        if not bool(torch.isfinite(block).all()):
            continue
        radius = -1.0
        if size <= EIGENVALUES_MOST:
            norm = float(torch.linalg.matrix_norm(block, 2))
            radius = float(torch.linalg.eigvals(block).abs().max())
        else:
            norm = _largest_singular(block)
        found.append(RecurrentFacts(title, number, size, norm, radius))
    return found


def _largest_singular(block: Any) -> float:
    """By power iteration."""
    import torch

    vector = torch.ones(block.shape[1], dtype=block.dtype) / block.shape[1] ** 0.5
    norm = 0.0
    for _ in range(30):
        image = block.T @ (block @ vector)
        length = float(image.norm())
        if length == 0.0:
            return 0.0
        vector, norm = image / length, length**0.5
    return norm
