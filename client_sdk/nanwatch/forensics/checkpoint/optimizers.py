"""What the state of optimizers says: moments, steps, the size of the update, whose state it is.

Called in a child by `reading`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nanwatch.forensics.checkpoint.facts import GroupFacts, OptimizerFacts, StateFacts
from nanwatch.forensics.checkpoint.layout import Leaf, is_tensor, states_of
from nanwatch.forensics.checkpoint.numbers import pieces, values_of
from nanwatch.probes.discovery import clean

_SETTINGS = ("lr", "initial_lr", "eps", "weight_decay", "momentum", "alpha", "rho", "dampening")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_KINDS = (
    ("exp_avg_sq", "Adam"),
    ("exp_avg_sq_row", "Adafactor"),
    ("square_avg", "RMSprop"),
    ("sum", "Adagrad"),
    ("momentum_buffer", "SGD"),
    ("state1", "8-bit optimizer"),
    ("exp_avg", "Lion"),
)
_SECOND = {"Adam": "exp_avg_sq", "RMSprop": "square_avg", "Adagrad": "sum"}
_FIRST = {"Adam": "exp_avg", "Lion": "exp_avg"}


def look_at(
    name: str, optimizer: Mapping[Any, Any], leaves: Sequence[Leaf], done: Any
) -> OptimizerFacts:
    """Numbers of one optimizer; `leaves` are the weights, in the order of the file.

    `done(bytes)` is told of progress.
    """
    groups = [g for g in optimizer["param_groups"] if isinstance(g, Mapping)]
    facts = OptimizerFacts(name, groups=[_group(group) for group in groups])
    states = list(states_of(optimizer))
    keys = {str(key) for _, state in states for key in state}
    facts.kind = next((kind for key, kind in _KINDS if key in keys), "SGD" if groups else "unknown")
    owners = owners_of(name, optimizer, leaves)
    facts.named = bool(owners)
    of_group = {
        str(key): group
        for raw, group in zip(groups, facts.groups, strict=True)
        for key in raw.get("params", ())
    }
    for key, state in states:
        group = of_group.get(str(key), GroupFacts())
        one = _state(facts.kind, key, state, group, owners.get(str(key)))
        facts.states.append(one)
        done(sum(v.numel() * v.element_size() for v in state.values() if is_tensor(v)))
    steps = [state.step for state in facts.states if state.step > 0]
    if steps:
        facts.steps_low, facts.steps_high = min(steps), max(steps)
    return facts


def _group(group: Mapping[Any, Any]) -> GroupFacts:
    settings = {}
    for key in _SETTINGS:
        value = _number(group.get(key))
        if value is not None:
            settings[key] = value
    betas = group.get("betas")
    if isinstance(betas, list | tuple) and len(betas) >= 2:
        for name, beta in zip(("beta1", "beta2"), betas, strict=False):
            value = _number(beta)
            if value is not None:
                settings[name] = value
    factor = _number(group.get("nanwatch_lr_factor"))
    members = group.get("params")
    count = len(members) if isinstance(members, list | tuple) else 0
    return GroupFacts(count, settings, 1.0 if factor is None else factor)


def _number(value: Any) -> float | None:
    if is_tensor(value) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _state(
    kind: str, key: Any, state: Mapping[Any, Any], group: GroupFacts, leaf: Leaf | None
) -> StateFacts:
    tensors = {str(k): v for k, v in state.items() if is_tensor(v) and str(k) != "step"}
    shape = next((list(v.shape) for v in tensors.values() if v.ndim), [])
    title = key if isinstance(key, str) else f"parameter {key}"
    if leaf is not None:
        title = leaf.key
    facts = StateFacts(clean(title), shape, _number(state.get("step")) or 0.0)
    for name, tensor in tensors.items():
        bad = _bad(tensor)
        if bad:
            facts.bad[name] = bad
    first, second = tensors.get(_FIRST.get(kind, "")), tensors.get(_SECOND.get(kind, ""))
    if second is not None:
        _second(facts, second)
    if not facts.bad:
        if kind == "Adam" and first is not None and second is not None:
            _adam(facts, first, second, group)
        elif kind == "SGD" and (momentum := tensors.get("momentum_buffer")) is not None:
            facts.m_norm = _norm(momentum)
            facts.update_norm = group.settings.get("lr", 0.0) * facts.m_norm
    if leaf is not None:
        facts.weight_norm = _norm(leaf.load())
    return facts


def _floats(tensor: Any) -> Iterator[Any]:
    values, _ = values_of(tensor)
    if values is not None:
        for piece, _ in pieces(values):
            yield piece


def _bad(tensor: Any) -> int:
    import torch

    bad = 0
    for piece in _floats(tensor):
        if not bool(torch.isfinite(piece.sum(dtype=torch.float64))):
            bad += int((~torch.isfinite(piece)).sum())
    return bad


def _norm(tensor: Any) -> float:
    import torch

    norms = [float(torch.linalg.vector_norm(p, dtype=torch.float64)) for p in _floats(tensor)]
    return sum(n * n for n in norms) ** 0.5


def _second(facts: StateFacts, second: Any) -> None:
    import torch

    largest = 0.0
    for piece in _floats(second):
        finite = piece[torch.isfinite(piece)]
        if finite.numel():
            largest = max(largest, float(finite.max()))
            facts.v_negative += int((finite < 0).sum())
    facts.v_max = largest
    facts.v_zero = largest == 0.0 and not facts.bad and bool(facts.shape)


def _adam(facts: StateFacts, first: Any, second: Any, group: GroupFacts) -> None:
    """Norms of the moments, corrected for their bias, and of the update they make."""
    settings, step = group.settings, max(facts.step, 1.0)
    correct_m = max(1.0 - settings.get("beta1", 0.9) ** step, 1e-12)
    correct_v = max(1.0 - settings.get("beta2", 0.999) ** step, 1e-12)
    eps, lr = settings.get("eps", 1e-8), settings.get("lr", 0.0)
    squares = [0.0, 0.0, 0.0]
    for m, v in zip(_floats(first), _floats(second), strict=False):
        m_hat = m.double() / correct_m
        root = (v.double() / correct_v).clamp(min=0.0).sqrt()
        for place, part in enumerate((m_hat, root, lr * m_hat / (root + eps))):
            squares[place] += float(part.square().sum())
    facts.m_norm, facts.v_root_norm, facts.update_norm = (s**0.5 for s in squares)


# --- whose state it is ---------------------------------------------------------------------------


def owners_of(name: str, optimizer: Mapping[Any, Any], leaves: Sequence[Leaf]) -> dict[str, Leaf]:
    """Index of a parameter, as text → its tensor; empty if that cannot be told for certain.

    A `state_dict` numbers parameters in the order of its groups, and a model's has them in the
    order of registration: shape after shape must fit, and none may be left over.
    """
    states = [(str(key), _shape(state)) for key, state in states_of(optimizer)]
    if not states:
        return {}
    by_name = {leaf.name: leaf for leaf in leaves}
    if all(clean(key) in by_name for key, _ in states):
        return {key: by_name[clean(key)] for key, _ in states}
    sections: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        if leaf.floating and not leaf.name.endswith(_BUFFERS):
            sections.setdefault(leaf.section, []).append(leaf)
    whole = [leaf for found in sections.values() for leaf in found if not leaf.is_copy]
    fits = [*sections.values(), *([whole] if len(sections) > 1 else [])]
    found = [owners for fit in fits if (owners := _match(optimizer, states, fit))]
    if len(found) > 1:
        found = [o for o in found if _stem(next(iter(o.values())).section) == _stem(name)]
    return found[0] if len(found) == 1 else {}


def _stem(name: str) -> str:
    """What a section and its optimizer have in common: `policy` of `policy_optimizer`."""
    last = name.lower().rpartition(".")[2]
    return re.sub(r"_?(optimi[sz]er|optim|opt|state|dict)_?", "", last)


def _shape(state: Mapping[Any, Any]) -> tuple[int, ...] | None:
    for key, value in state.items():
        if is_tensor(value) and str(key) != "step":
            return tuple(value.shape)
    return None


def _match(
    optimizer: Mapping[Any, Any],
    states: list[tuple[str, tuple[int, ...] | None]],
    leaves: list[Leaf],
) -> dict[str, Leaf]:
    if len(leaves) != len(states):
        return {}
    shapes = dict(states)
    if not all(leaf.ordered for leaf in leaves):
        return _match_unique(states, leaves)
    left = list(leaves)
    found: dict[str, Leaf] = {}
    for group in optimizer["param_groups"]:
        place = 0
        for key in group.get("params", ()):
            want = shapes.get(str(key))
            if want is None:
                continue
            while place < len(left) and left[place].shape != want:
                place += 1
            if place == len(left):
                return {}
            found[str(key)] = left.pop(place)
    return found if len(found) == len(states) else {}


def _match_unique(
    states: list[tuple[str, tuple[int, ...] | None]], leaves: list[Leaf]
) -> dict[str, Leaf]:
    """Those whose shape no other tensor and no other state has."""
    by_shape: dict[tuple[int, ...], list[Leaf]] = {}
    for leaf in leaves:
        by_shape.setdefault(leaf.shape, []).append(leaf)
    wanted = [shape for _, shape in states]
    return {
        key: by_shape[shape][0]
        for key, shape in states
        if shape is not None and wanted.count(shape) == 1 and len(by_shape.get(shape, [])) == 1
    }
