"""What forensics concludes, as data and as sentences a person can use. Pure; background thread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nanwatch.contract.limits import to_name

NAMES_MOST = 32


@dataclass(slots=True)
class Verdict:
    """Where the first value that is not finite came from, as far as it can be told."""

    verdict: Literal["layer", "all_at_once", "loss", "not_found"] = "not_found"
    cause: Literal["nan", "overflow", "unknown"] = "unknown"
    first_forward: str = ""
    first_backward: str = ""
    producers: list[str] = field(default_factory=list)
    propagators: list[str] = field(default_factory=list)
    text: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    certain: bool = False
    """True if one layer was named and nothing could have hidden an earlier one."""


def from_gradients(names: Sequence[str], values: Sequence[float]) -> Verdict:
    """Verdict of the gradient norms of one attempt; `names` in the order of the layers.

    The backward pass goes from the last layer to the first, and what is not finite spoils
    everything it comes to afterwards: the last bad layer is where it began.
    """
    bad = [n for n, value in enumerate(values) if not math.isfinite(value)]
    if not bad:
        return Verdict()
    infinite = any(math.isinf(values[n]) for n in bad)
    nan = any(math.isnan(values[n]) for n in bad)
    cause: Literal["nan", "overflow", "unknown"] = "nan" if not infinite else "overflow"
    if infinite and nan:
        cause = "unknown"
    layers = list(dict.fromkeys(names))
    bad_layers = list(dict.fromkeys(names[n] for n in bad))
    if len(bad) == len(values) and len(layers) > 1:
        return Verdict(
            "all_at_once",
            cause,
            text=f"All {len(values)} gradients became non-finite at once: the order in which it "
            "happened cannot be told from them.",
        )
    first = layers[max(layers.index(layer) for layer in bad_layers)]
    after = layers[layers.index(first) + 1 :]
    text = f"The gradient of {first} is the first in the backward pass that is not finite"
    if after:
        text += f"; those of {after[0]}, which come before it in the backward pass, are finite"
    text += f" ({len(bad)} of {len(values)} gradients are bad)."
    return Verdict("layer", cause, first_backward=to_name(first), text=text, certain=False)


def several(names: Sequence[str], most: int = 4) -> str:
    """`a, b, c and 5 more`."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
