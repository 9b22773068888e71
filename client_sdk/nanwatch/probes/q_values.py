"""What the critics say: mean, spread and range of Q of each, of its target copy, and their gap.

A critic is a root module (or a part of an agent) that an optimizer owns, that is called like one,
and whose output has the shape (batch, 1) or (batch, actions). The calls that count are those with
gradients that the critic's own optimizer then used; acting has a scope of its own. Fed by `calls`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.contract.kinds import MOMENTS
from nanwatch.contract.limits import to_name
from nanwatch.probes.calls import (
    Ledger,
    Listener,
    Watch,
)
from nanwatch.probes.modules import sounds_like_critic, unwrapped, words_of
from nanwatch.probes.passes import ScopedCadence
from nanwatch.probes.probe import Columns, Measured, now
from nanwatch.probes.tensors import Numbers, capturing, read

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt, Backward
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known

OUTPUTS_MOST = 8
"""Critics in one module (TD3's pair, an ensemble in a list)."""

ELEMENTS_MOST = 1 << 16
"""Values of one output that are kept until its attempt closes; of more, a copy of the first."""

READ_MOST = 1024
"""So many values in host memory are read one by one."""

_TARGET_WORDS = frozenset(
    {"target", "targets", "targ", "tgt", "ema", "old", "slow", "avg", "average", "delayed", "bar"}
)
_NO_CRITIC_WORDS = frozenset(
    {"proj", "projection", "query", "queries", "key", "keys", "attention", "attn", "embedding"}
    | {"embeddings", "embed", "token", "tokens", "encoder", "decoder"}
)
_KEY_NAMES = frozenset(
    {"k", "key", "keys", "kv", "wk", "w_k", "k_proj", "key_proj", "proj_k", "to_k", "k_lin"}
    | {"key_layer", "linear_k", "fc_k", "query", "queries", "q_proj", "qkv", "wq", "w_q"}
)
_ATTENTION = re.compile(r"attention|attn|attend", re.IGNORECASE)
_GENERATOR_WORDS = frozenset({"generator", "gen", "netg"})


@dataclass(slots=True, eq=False)
class Critic:
    """One critic, and the module that is its slow copy."""

    scope: str
    watch: Watch
    target: Watch | None = None
    target_outputs: list[Any] = field(default_factory=list)
    acting: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """One output: its scope and what the four moments of it are called."""

    scope: str
    role: str
    """`online`, `target` or `acting`."""
    tensor: Any


class QValues(Listener):
    """Measures at the close of the attempts of a critic's optimizer."""

    name: ClassVar[str] = "Q values"
    share: ClassVar[float] = 0.2

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self.cadence: ScopedCadence = ScopedCadence(observer.overhead, self.share)
        self._critics: dict[Watch, Critic] = {}
        self._targets: dict[Watch, Critic] = {}
        self._spoke: set[Critic] = set()
        self._ledger: Ledger[tuple[Critic, list[Any]]] = Ledger()
        self._columns: dict[tuple[tuple[str, str], ...], Columns] = {}

    # --- which modules are critics ---------------------------------------------------------------

    def found(self, watches: Sequence[Watch]) -> None:
        """Tell critics, their targets and everything else apart."""
        gan = any(_generates(watch) for watch in watches)
        self._critics = {}
        for watch in watches:
            if watch.owners and _is_critic(watch, gan):
                self._critics[watch] = Critic(to_name(watch.name), watch)
        self._targets = {}
        copies = [w for w in watches if not w.owners and w not in self._critics]
        for watch, critic in _pairs(copies, list(self._critics.values())):
            critic.target = watch
            self._targets[watch] = critic
        scopes = {
            known.scope
            for critic in self._critics.values()
            for number in critic.watch.owners
            if (known := self.observer.registry.known.get(number)) is not None
        }
        self.cadence.named(sorted(scopes))

    def wants(self, watch: Watch) -> bool:
        """Critics and their targets."""
        return watch in self._critics or watch in self._targets

    # --- calls -----------------------------------------------------------------------------------

    def called(self, watch: Watch, output: Any, with_grad: bool) -> None:
        """Keep what it said until it is known whether that was used."""
        values = _outputs(output)
        if not values:
            return
        target_of = self._targets.get(watch)
        if target_of is not None:
            target_of.target_outputs = [_kept(value) for value in values]
            return
        critic = self._critics[watch]
        if not with_grad:
            critic.acting = [_kept(value) for value in values]
        elif values[0].requires_grad:
            self._ledger.note((critic, [_kept(value) for value in values]), watch.owners)

    def after_backward(self, backward: Backward) -> None:
        """It used what was said since the last one."""
        self._ledger.after_backward(backward)

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Measure what the critics of this optimizer said in this attempt."""
        said: dict[Critic, list[Any]] = {}
        for critic, values in self._ledger.closed(attempt):
            if known.number in critic.watch.owners:
                said.setdefault(critic, values)
        if not said:
            return
        self._spoke.update(said)
        due = self.cadence.of(known.scope).due()
        parts = [part for critic, values in said.items() for part in _parts(critic, values)]
        for critic in said:
            critic.target_outputs, critic.acting = [], []
        if not due or capturing():
            return
        started = time.perf_counter()
        for group in _groups(parts):
            self._measure(known, attempt, group)
        self.cadence.of(known.scope).spent(time.perf_counter() - started)

    def _measure(self, known: Known, attempt: Attempt, parts: list[_Part]) -> None:
        key = tuple((part.scope, part.role) for part in parts)
        columns = self._columns.get(key)
        if columns is None:
            columns = self._columns[key] = Columns(tuple(_entries(key)))
        numbers, lengths = _moments([part.tensor for part in parts])
        source = f"q {known.scope} {parts[0].role} {parts[0].tensor.device}"
        finish = partial(_values, key, lengths)
        self.observer.recorder.put(Measured(attempt.step, now(), columns, numbers, source, finish))

    def coverage(self) -> str:
        """Which critics were found, and how often they are measured."""
        if not self._spoke:
            return ""
        names = sorted(
            f"{critic.scope} (target {to_name(critic.target.name)})"
            if critic.target is not None
            else critic.scope
            for critic in self._spoke
            if critic in self._critics.values()
        )
        return f"{', '.join(names)}: {self.cadence.text()}"[:400] if names else ""


# --- recognising ---------------------------------------------------------------------------------


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _generates(watch: Watch) -> bool:
    """The generator of a GAN: what is called critic there judges pictures, not actions."""
    if watch.name in ("G", "g"):
        return True
    words = words_of(watch.name) | words_of(watch.class_name)
    return bool(words & _GENERATOR_WORDS) or {"net", "g"} <= words


def _is_critic(watch: Watch, gan: bool) -> bool:
    name = _last(watch.name)
    if not sounds_like_critic(name, watch.class_name):
        return False
    words = words_of(name)
    kind = type(unwrapped(watch.ref()))
    if words & _NO_CRITIC_WORDS or _ATTENTION.search(kind.__name__):
        return False
    if kind.__module__ == "torch.nn.modules.transformer":
        return False
    if gan and "critic" in words | words_of(watch.class_name):
        return False
    parent = watch.parent() if watch.parent is not None else None
    if parent is None:
        return True
    # `value` next to `key` is a projection inside attention.
    return not (
        _KEY_NAMES & {name for name, _ in parent.named_children()}
        or _ATTENTION.search(type(parent).__name__)
    )


def _pairs(copies: list[Watch], critics: list[Critic]) -> Iterable[tuple[Watch, Critic]]:
    """(target, critic): first by name, then what is left if it can be only one."""
    free = list(critics)
    left: list[Watch] = []
    for copy in copies:
        words = words_of(_last(copy.name)) - _TARGET_WORDS
        same = [c for c in free if c.watch.signature == copy.signature]
        named = [c for c in same if words_of(_last(c.watch.name)) - _TARGET_WORDS == words]
        if len(named) == 1:
            free.remove(named[0])
            yield copy, named[0]
        else:
            left.append(copy)
    for copy in left:
        same = [c for c in free if c.watch.signature == copy.signature]
        rivals = [one for one in left if one.signature == copy.signature]
        if len(same) == 1 and len(rivals) == 1:
            free.remove(same[0])
            yield copy, same[0]


# --- values --------------------------------------------------------------------------------------


def _outputs(output: Any) -> list[Any]:
    """Q values in an output: one tensor, or a tuple of several of one shape; else nothing."""
    import torch

    several = list(output) if isinstance(output, tuple | list) else [output]
    if not 0 < len(several) <= OUTPUTS_MOST:
        return []
    first = several[0]
    for value in several:
        if type(value) is not torch.Tensor or not value.is_floating_point():
            return []
        if value.dim() not in (1, 2) or value.shape != first.shape or value.numel() == 0:
            return []
    return several


def _kept(value: Any) -> Any:
    value = value.detach().reshape(-1)
    return value[:ELEMENTS_MOST].clone() if value.numel() > ELEMENTS_MOST else value


def _parts(critic: Critic, values: list[Any]) -> Iterable[_Part]:
    several = len(values) > 1
    for role, tensors in (
        ("online", values),
        ("target", critic.target_outputs),
        ("acting", critic.acting),
    ):
        if role == "target" and len(tensors) != len(values):
            continue
        for index, tensor in enumerate(tensors):
            scope = f"{critic.scope}{index + 1}" if several else critic.scope
            yield _Part(f"{scope}.acting" if role == "acting" else scope, role, tensor)


def _groups(parts: list[_Part]) -> Iterable[list[_Part]]:
    """One pass for each device; acting apart, since it does not come in every attempt."""
    groups: dict[Any, list[_Part]] = {}
    for part in parts:
        groups.setdefault((part.tensor.device, part.role == "acting"), []).append(part)
    return groups.values()


def _moments(tensors: list[Any]) -> tuple[Numbers, tuple[int, ...]]:
    """(numbers by one copy, lengths): four moments a tensor where the lengths are empty.

    Small tensors on the host are read as they are, and the background thread does the rest: a
    chain of operations on a hundred values costs thirty times the reading.
    """
    import torch

    lengths = tuple(tensor.numel() for tensor in tensors)
    if tensors[0].device.type == "cpu" and sum(lengths) <= READ_MOST:
        flat: list[float] = []
        for tensor in tensors:
            flat += tensor.tolist()
        return Numbers(flat), lengths
    wide = any(tensor.dtype is torch.float64 for tensor in tensors)
    dtype = torch.float64 if wide else torch.float32
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(length, []).append(index)
    found: list[Any] = [None] * len(tensors)
    with torch.no_grad():
        for indices in by_length.values():
            block = torch.stack([tensors[i].to(dtype) for i in indices])
            std, mean = torch.std_mean(block, dim=1, correction=0)
            low, high = torch.aminmax(block, dim=1)
            for index, four in zip(indices, torch.stack((mean, std, low, high), 1), strict=True):
                found[index] = four
        return read(torch.cat(found)), ()


def moments_of(values: Sequence[float]) -> list[float]:
    """Mean, standard deviation (population), least and greatest; all NaN if one value is."""
    n = len(values)
    mean = sum(values) / n
    if mean != mean and any(value != value for value in values):
        return [mean] * 4
    return [mean, math.dist(values, [mean] * n) / math.sqrt(n), min(values), max(values)]


def _entries(key: tuple[tuple[str, str], ...]) -> Iterable[tuple[str, str, str]]:
    for scope, role in key:
        if role == "target":
            yield "q_target_mean", scope, ""
            yield "q_target_gap", scope, ""
        else:
            for moment in MOMENTS:
                yield f"q_{moment}", scope, ""


def _values(
    key: tuple[tuple[str, str], ...], lengths: tuple[int, ...], found: Sequence[float]
) -> list[float]:
    """The values of `_entries`. Background thread."""
    if lengths:
        rest = iter(found)
        found = [m for length in lengths for m in moments_of(list(islice(rest, length)))]
    values: list[float] = []
    online: dict[str, float] = {}
    for index, (scope, role) in enumerate(key):
        four = found[4 * index : 4 * index + 4]
        if role == "target":
            values += [four[0], online.get(scope, four[0]) - four[0]]
        else:
            online[scope] = four[0]
            values += four
    return values
