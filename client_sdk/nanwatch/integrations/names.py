"""What a name means that somebody else's logger gave: its stage and, if known, its kind.

Pure. `base.forward` uses it for every integration; the known names are in `contract.names`.
"""

from __future__ import annotations

from typing import NamedTuple

from nanwatch.contract.limits import to_name
from nanwatch.contract.names import KIND_OF, known_kind, parts_of, take_stage
from nanwatch.record import series_key

__all__ = ["KIND_OF", "MEASURED", "Place", "place"]

MEASURED = frozenset({"loss", "grad_norm", "lr", "loss_scale"})
"""Kinds that nanwatch measures itself, at every attempt, with no filter or window of a logger."""


class Place(NamedTuple):
    """Where a logged number belongs."""

    stage: str
    name: str
    """What `Run.log` takes: a kind, `scope.kind`, or a name that is no kind (`custom`)."""


def place(name: str, stage: str = "train", *, measured: bool = True) -> Place:
    """Stage and name of a logged number; `stage` if the name says none.

    With `measured` the training's own loss, gradient norm and learning rate keep their logger's
    name (`train/loss`), so that they do not mix with what nanwatch measures under that kind.
    """
    parts, stage = take_stage(parts_of(name), stage)
    kind = _kind(parts, stage)
    if kind and not (measured and stage == "train" and kind.rpartition(".")[2] in MEASURED):
        return Place(stage, kind)
    plain = to_name("/".join(parts))
    if series_key(plain, "")[0] != "custom":
        plain = f"{stage}/{plain.replace('.', '/')}"  # no kind by chance: it has its own unit
    return Place(stage, plain)


def _kind(parts: list[str], stage: str) -> str:
    """Kind, or `scope.kind`, or nothing. An epoch's mean of the training is not the attempt's."""
    last = parts[-1].lower() if parts else ""
    if stage != "train":
        last = last.removesuffix("_epoch")
    return known_kind(last)
