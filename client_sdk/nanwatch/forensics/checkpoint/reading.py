"""Reads a whole checkpoint: opens its files, finds what is in them, measures all of it.

Called by `child`; everything here may raise, and the child turns that into a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nanwatch.forensics.checkpoint import numbers, optimizers
from nanwatch.forensics.checkpoint.facts import (
    ChangeFacts,
    CheckpointFacts,
    Comparison,
    CopyFacts,
    TensorFacts,
)
from nanwatch.forensics.checkpoint.formats import Parts, Unusable, trainer_state
from nanwatch.forensics.checkpoint.layout import Layout, Leaf, explore, states_of
from nanwatch.forensics.checkpoint.opening import open_file

T = TypeVar("T")
Say = Callable[[str, int, int], None]
"""Progress: what is being done, bytes done, bytes in all."""


class Checkpoint:
    """An open checkpoint."""

    def __init__(self, path: Path, parts: Parts) -> None:
        self.path, self.parts = path, parts
        self.layout = Layout(writer=parts.layout)
        self.notes = list(parts.notes)
        self.formats: list[str] = []
        self.tree: Any = None
        """Of the only file; a dict by section for a folder."""

    def open(self, say: Say) -> Checkpoint:
        """Open every file of it. Raises Unusable."""
        trees: dict[str, Any] = {}
        for number, part in enumerate(self.parts.files):
            say(f"opening {part.path.name}", number, len(self.parts.files))
            opened = open_file(part.path)
            self.formats.append(opened.kind)
            self.notes += opened.notes
            explore(self.layout, opened.tree, part.section)
            if len(self.parts.files) == 1:
                self.tree = opened.tree
            elif part.section or not isinstance(opened.tree, dict):
                trees[part.section] = opened.tree
            else:
                trees.update(opened.tree)
        self.tree = trees if self.tree is None else self.tree
        if self.path.is_dir():
            for key, value in trainer_state(self.path).items():
                self.layout.counters.setdefault(key, value)
        if not self.layout.leaves and not self.layout.optimizers:
            raise Unusable(
                f"there are no tensors in {self.path.name}: expected a state_dict or a dict of them"
            )
        if self.layout.left_out:
            self.notes.append("it holds more tensors than are looked at: the rest was left out")
        return self


def read(now: Checkpoint, earlier: Checkpoint | None, say: Say) -> CheckpointFacts:
    """Measure everything in `now`, and what changed since `earlier`."""
    layout = now.layout
    total = sum(leaf.bytes for leaf in layout.leaves) * (2 if earlier else 1)
    total += sum(
        getattr(value, "nbytes", 0)
        for optimizer in layout.optimizers.values()
        for _, state in states_of(optimizer)
        for value in state.values()
    )
    done = 0

    def did(count: int, text: str = "reading tensors") -> None:
        nonlocal done
        done += count
        say(text, done, max(total, 1))

    facts = CheckpointFacts(
        path=str(now.path),
        format=", ".join(dict.fromkeys(now.formats)),
        bytes=sum(part.path.stat().st_size for part in now.parts.files),
        layout=layout.writer,
        scalers=layout.scalers,
        counters=layout.counters,
        nan_values=layout.nan_values,
        config=layout.config,
        notes=now.notes,
    )
    facts.tensors = _measure(layout.leaves, did)
    for leaf in layout.leaves:
        if numbers.is_recurrent(leaf.name):
            facts.recurrent += numbers.recurrent(leaf.key, leaf.load())
    facts.copies = _copies(layout.leaves, facts.tensors)
    weights = [
        leaf
        for leaf, one in zip(layout.leaves, facts.tensors, strict=True)
        if one.role in ("weight", "buffer")
    ]
    for name, optimizer in layout.optimizers.items():
        text = f"reading {name}"
        one = optimizers.look_at(name, optimizer, weights, lambda n, text=text: did(n, text))
        facts.optimizers.append(one)
    if earlier is not None:
        facts.comparison = _compare(layout, earlier, did)
    return facts


def _measure(leaves: Sequence[Leaf], did: Callable[[int], None]) -> list[TensorFacts]:
    biases = {
        (leaf.section, leaf.name.removesuffix("bias")): leaf
        for leaf in leaves
        if leaf.name.endswith("bias") and len(leaf.shape) == 1
    }
    known: dict[tuple[Any, ...], TensorFacts] = {}
    found: list[TensorFacts] = []
    for leaf in leaves:
        tensor = leaf.load()
        one = TensorFacts(
            leaf.name,
            leaf.section,
            str(tensor.dtype).removeprefix("torch."),
            list(leaf.shape),
            "data" if leaf.is_data else "weight",
        )
        same = _identity(tensor)
        if same in known:
            # Tied weights, and views of one storage, are read once.
            twin = known[same]
            for field in TensorFacts.__struct_fields__[5:]:
                setattr(one, field, getattr(twin, field))
            one.role = twin.role
        else:
            bias = biases.get((leaf.section, leaf.name.removesuffix("weight")))
            zero = _zeros(bias, tensor) if bias is not None else None
            numbers.measure(one, tensor, zero)
            if same is not None:
                known[same] = one
        found.append(one)
        did(leaf.bytes)
    return found


def _identity(tensor: Any) -> tuple[Any, ...] | None:
    if tensor.is_nested:
        return None
    try:
        place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    except (RuntimeError, NotImplementedError):
        return None  # sparse, nested
    if not place[0]:
        return None
    return (*place, tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))


def _zeros(bias: Leaf, weight: Any) -> Any:
    """Which elements of a bias are zero; None if it does not go with the rows of the weight."""
    values, _ = numbers.values_of(bias.load())
    if values is None or weight.ndim < 2 or values.shape[:1] != weight.shape[:1]:
        return None
    return values == 0


def _copies(leaves: Sequence[Leaf], facts: Sequence[TensorFacts]) -> list[CopyFacts]:
    """EMA, teacher and target copies beside what they are copies of."""
    originals = {
        (leaf.original, leaf.shape): (leaf, one)
        for leaf, one in zip(leaves, facts, strict=True)
        if not leaf.is_copy and one.role in ("weight", "buffer") and one.elements
    }
    groups: dict[tuple[str, str], list[tuple[Leaf, TensorFacts, Leaf, TensorFacts]]] = {}
    for leaf, one in zip(leaves, facts, strict=True):
        if not leaf.is_copy or not one.elements:
            continue
        pair = originals.get((leaf.original, leaf.shape))
        if pair is not None:
            names = _head(leaf), _head(pair[0])
            groups.setdefault(names, []).append((leaf, one, *pair))
    return [_copy(names, pairs) for names, pairs in groups.items()]


def _head(leaf: Leaf) -> str:
    """The network a tensor belongs to: its section, or the first part of its name."""
    return leaf.section or leaf.name.partition(".")[0]


def _copy(
    names: tuple[str, str], pairs: list[tuple[Leaf, TensorFacts, Leaf, TensorFacts]]
) -> CopyFacts:
    bad, of_bad = sum(one.bad > 0 for _, one, _, _ in pairs), sum(of.bad > 0 for *_, of in pairs)
    distance = float("nan")
    if not bad and not of_bad:
        change = sum(_difference(leaf.load(), of.load())[0] ** 2 for leaf, _, of, _ in pairs)
        norm = sum(of.norm**2 for *_, of in pairs)
        distance = (change / norm) ** 0.5 if norm > 0 else 0.0
    return CopyFacts(names[0], names[1], len(pairs), distance, bad, of_bad)


def _difference(a: Any, b: Any) -> tuple[float, bool]:
    """(norm of the difference of two tensors of one shape, whether all numbers are the same)."""
    import torch

    first, second = numbers.values_of(a)[0], numbers.values_of(b)[0]
    if first is None or second is None or first.shape != second.shape:
        return float("nan"), False
    squares, same = 0.0, True
    for one, other in zip(numbers.pieces(first), numbers.pieces(second), strict=True):
        # NaN is not equal to itself, but a NaN that stays one has not changed.
        difference = torch.nan_to_num(one[0].double() - other[0].double())
        same = same and torch.equal(torch.nan_to_num(one[0]), torch.nan_to_num(other[0]))
        norm = float(torch.linalg.vector_norm(difference))
        squares += norm * norm
    return squares**0.5, same


# --- an earlier checkpoint -----------------------------------------------------------------------


def _compare(layout: Layout, earlier: Checkpoint, did: Callable[[int, str], None]) -> Comparison:
    after = {leaf.key: leaf for leaf in layout.leaves if leaf.floating and not leaf.is_data}
    old_leaves = {leaf.key: leaf for leaf in earlier.layout.leaves if leaf.floating}
    before = _renamed(old_leaves, list(after))
    found = Comparison(str(earlier.path), dict(earlier.layout.counters))
    states = [s for o in earlier.layout.optimizers.values() for _, s in states_of(o)]
    steps = [float(s["step"]) for s in states if "step" in s]
    found.steps_before = max(steps, default=0.0)
    found.vanished = [key for key in before if key not in after]
    for key, leaf in after.items():
        did(leaf.bytes, f"comparing with {earlier.path.name}")
        old = before.get(key)
        if old is None:
            found.appeared.append(key)
        elif old.shape != leaf.shape:
            found.reshaped.append(key)
        else:
            found.changes.append(_change(key, old.load(), leaf.load()))
    if not found.changes:
        raise Unusable(
            f"{earlier.path.name} has no tensor of the same name and shape: expected an earlier "
            "checkpoint of the same training"
        )
    return found


def _renamed(leaves: dict[str, T], wanted: list[str]) -> dict[str, T]:
    """`leaves` under the names that are `wanted`, where only what they are kept in differs: weights
    alone, or under `model.` beside the optimizer."""
    if not leaves or any(key in leaves for key in wanted):
        return leaves
    pairs = ((old, new) for new in wanted for old in leaves)
    for old, new in pairs:
        if old.endswith((f".{new}", f": {new}")):
            prefix = old.removesuffix(new)
            return {key.removeprefix(prefix): leaf for key, leaf in leaves.items()}
        if new.endswith((f".{old}", f": {old}")):
            prefix = new.removesuffix(old)
            return {prefix + key: leaf for key, leaf in leaves.items()}
    return leaves


def _change(key: str, old: Any, new: Any) -> ChangeFacts:
    before = numbers.measure(TensorFacts(key, "", "", []), old)
    after = numbers.measure(TensorFacts(key, "", "", []), new)
    change, same = _difference(new, old)
    return ChangeFacts(
        key, after.elements, before.norm, after.norm, change, same, before.bad, after.bad
    )
