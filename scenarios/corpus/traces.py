"""Recorded runs: how they are kept, and how they are replayed. No torch; `record` writes them.

One file a program, `traces/NAME.trace`: msgpack around pcodec arrays. Values are float32; norms of
layers and times of steps are rounded further (`BITS`), NaN, infinities and 0 are exact. What
stands for the machine rather than for the training is left out. A trace is the points and marks of
rank 0 in the order of the wire, joined to longer tables as the pipeline joins them when it catches
up.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from nanwatch.contract.frames import Mark
from nanwatch_server.domain.models import Series
from nanwatch_server.domain.points import Points
from nanwatch_server.store.codec import F64, I64, pack, pack_axis, unpack, unpack_axis
from nanwatch_server.store.replay import joined
from scenarios.corpus.about import About

HERE = Path(__file__).parent / "traces"
SPLIT = Path(__file__).parent / "split.json"
VERSION = 1

ATTEMPTS = 64
"""Longest table, and with several scopes what they send in about that many attempts."""
JOINED_ROWS = 256
LAYERS_MOST = 10
"""Layers of one kind and scope that are kept: the first, the last, and others evenly between."""

LEFT_OUT = frozenset(
    {"sdk_overhead", "throughput", "memory", "gpu_memory", "gpu_utilization", "gpu_temperature"}
)
BITS = {"grad_norm": 14, "grad_norm_clipped": 14, "grad_norm_layer": 12, "step_time": 8,
        "data_time": 8}  # fmt: skip
"""Bits of the mantissa that are kept, of 23. What rules may compare for equality keeps all."""

Half = Literal["tuned", "scored"]
HALVES: tuple[Half, Half] = ("tuned", "scored")
Item = tuple[Literal["points"], Points] | tuple[Literal["mark"], str, int, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Trace:
    """One run of one program."""

    name: str
    seed: int
    about: About
    facts: dict[str, str]
    """Configuration and what the process said of itself, as rules and diagnosis get them."""
    ending: str
    """Empty for a run that returned, else the exception that ended it."""
    parts: tuple[Points | Mark, ...]
    """Tables and marks in the order of the wire."""

    @property
    def marks(self) -> list[Mark]:
        """The marks alone."""
        return [part for part in self.parts if isinstance(part, Mark)]

    @property
    def tables(self) -> list[Points]:
        """The points alone."""
        return [part for part in self.parts if isinstance(part, Points)]

    def replay(self) -> Iterator[Item]:
        """Points for `blocks_of` and marks for `RunDetector.mark`, in the order of the training."""
        for part in self.parts:
            if isinstance(part, Mark):
                yield "mark", part.what, part.step, part.data
            else:
                yield "points", part

    def series(self) -> dict[Series, tuple[I64, F64]]:
        """(steps, values) of every series, whole."""
        found: dict[Series, tuple[list[I64], list[F64]]] = {}
        for points in self.tables:
            for row, one in enumerate(points.series):
                steps, values = found.setdefault(one, ([], []))
                steps.append(points.steps)
                values.append(points.values[row])
        return {
            one: (np.concatenate(steps), np.concatenate(values))
            for one, (steps, values) in found.items()
        }


# --- what is kept of a run -----------------------------------------------------------------------


def kept(parts: Iterable[Points | Mark]) -> tuple[Points | Mark, ...]:
    """Parts of a run as a trace keeps them: fewer series, rounded values, joined tables."""
    known = list(parts)
    chosen = _chosen(known)
    done: list[Points | Mark] = []
    waiting: list[Points] = []
    rows = 0

    def flush() -> None:
        nonlocal rows
        done.extend(table for long in joined(waiting) for table in _cut(long))
        waiting.clear()
        rows = 0

    for part in known:
        if isinstance(part, Mark):
            flush()
            done.append(part)
            continue
        for table in _cut(_thinned(part, chosen)):
            if rows + len(table.steps) > JOINED_ROWS:
                flush()
            waiting.append(table)
            rows += len(table.steps)
    flush()
    return tuple(done)


def _chosen(parts: Sequence[Points | Mark]) -> frozenset[Series]:
    layers: dict[tuple[str, str, str], list[Series]] = {}
    for points in (part for part in parts if isinstance(part, Points)):
        for one in points.series:
            if one.kind not in LEFT_OUT:
                known = layers.setdefault((one.kind, one.scope, one.stage), [])
                if one not in known:
                    known.append(one)
    kept: list[Series] = []
    for (kind, _, _), all_of in layers.items():
        few = len(all_of) <= LAYERS_MOST or not all_of[0].layer or kind in ("custom", "nonfinite")
        places = range(len(all_of)) if few else np.linspace(0, len(all_of) - 1, LAYERS_MOST)
        kept += [all_of[round(place)] for place in places]
    return frozenset(kept)


def _thinned(points: Points, chosen: frozenset[Series]) -> Points:
    rows = [row for row, one in enumerate(points.series) if one in chosen]
    series = tuple(points.series[row] for row in rows)
    values = [rounded(points.values[row], BITS.get(points.series[row].kind, 23)) for row in rows]
    return Points(series, points.steps, points.times, np.array(values, np.float64))


def _cut(points: Points) -> Iterator[Points]:
    if not points.series:
        return
    for at in range(0, len(points.steps), ATTEMPTS):
        part = slice(at, at + ATTEMPTS)
        yield Points(points.series, points.steps[part], points.times[part], points.values[:, part])


def rounded(values: F64, bits: int) -> F64:
    """Float32 with `bits` bits of mantissa (of 23), except what is not finite or 0, and what
    float32 cannot hold."""
    with np.errstate(over="ignore", invalid="ignore"):
        small = values.astype(np.float32)
    if bits < 23:
        raw = small.view(np.uint32)
        drop = np.uint32(23 - bits)
        half = np.uint32(1) << (drop - np.uint32(1))
        near = (((raw + half) >> drop) << drop).view(np.float32)
        small = np.where(np.isfinite(small) & np.isfinite(near), near, small)
    wide = small.astype(np.float64)
    lost = np.isfinite(values) & (~np.isfinite(wide) | ((wide == 0) & (values != 0)))
    return np.where(lost, values, wide)


# --- files ---------------------------------------------------------------------------------------


def save(name: str, about: About, traces: Sequence[Trace], directory: Path = HERE) -> int:
    """Write all runs of a program; returns the size in bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    document = {
        "version": VERSION,
        "name": name,
        "about": about._asdict(),
        "runs": [_packed(trace) for trace in sorted(traces, key=lambda trace: trace.seed)],
    }
    data = msgspec.msgpack.encode(document)
    path = directory / f"{name}.trace"
    fresh = path.with_suffix(".part")
    fresh.write_bytes(data)
    fresh.replace(path)
    return len(data)


def load(name: str, directory: Path = HERE) -> list[Trace]:
    """All recorded runs of a program. Raises `FileNotFoundError`."""
    path = directory / f"{name}.trace"
    if not path.is_file():
        raise FileNotFoundError(
            f"no trace of {name!r} in {directory}: `python -m scenarios.corpus.record {name}`"
        )
    document = msgspec.msgpack.decode(path.read_bytes())
    if document["version"] != VERSION:
        raise ValueError(f"expected a trace of version {VERSION}, got {document['version']}")
    about = About(**document["about"])
    return [_unpacked(document["name"], about, run) for run in document["runs"]]


def names(directory: Path = HERE) -> list[str]:
    """Programs that are recorded."""
    return sorted(path.stem for path in directory.glob("*.trace"))


def _packed(trace: Trace) -> dict[str, Any]:
    """Tables of the same series become one group; `order` says how they follow each other."""
    groups: dict[tuple[Series, ...], list[Points]] = {}
    order: list[tuple[int, int]] = []
    marks: list[bytes] = []
    for part in trace.parts:
        if isinstance(part, Mark):
            order.append((-1, len(marks)))
            marks.append(msgspec.msgpack.encode(part))
        else:
            groups.setdefault(part.series, []).append(part)
            order.append((list(groups).index(part.series), len(part.steps)))
    series = list(dict.fromkeys(one for key in groups for one in key))
    return {
        "seed": trace.seed,
        "facts": trace.facts,
        "ending": trace.ending,
        "series": [[one.stage, one.scope, one.kind, one.layer] for one in series],
        "marks": marks,
        "order": pack([np.array(order, np.int64).reshape(-1, 2).T.ravel()]),
        "groups": [
            {
                "rows": [series.index(one) for one in key],
                "axis": pack_axis(
                    np.concatenate([part.steps for part in parts]),
                    np.concatenate([part.times for part in parts]),
                ),
                "values": pack(_columns(np.concatenate([part.values for part in parts], axis=1))),
            }
            for key, parts in groups.items()
        ],
    }


def _columns(values: F64) -> list[NDArray]:
    """One array a series, float32 where nothing is lost."""
    found: list[NDArray] = []
    for column in values:
        with np.errstate(over="ignore", invalid="ignore"):
            small = column.astype(np.float32)
        same = np.array_equal(small.astype(np.float64), column, equal_nan=True)
        found.append(small if same else column)
    return found


def _unpacked(name: str, about: About, run: dict[str, Any]) -> Trace:
    run_id = run_id_of(name, run["seed"])
    series = [
        Series(id=number, run_id=run_id, rank=0, stage=stage, scope=scope, kind=kind, layer=layer)
        for number, (stage, scope, kind, layer) in enumerate(run["series"])
    ]
    groups: list[Points] = []
    for group in run["groups"]:
        steps, times = unpack_axis(group["axis"])
        values = np.array([one.astype(np.float64) for one in unpack(group["values"])])
        groups.append(Points(tuple(series[row] for row in group["rows"]), steps, times, values))
    marks = [msgspec.msgpack.decode(one, type=Mark) for one in run["marks"]]
    (order,) = unpack(run["order"])
    at = [0] * len(groups)
    parts: list[Points | Mark] = []
    for number, length in order.reshape(2, -1).T.tolist():
        if number < 0:
            parts.append(marks[length])
            continue
        whole, part = groups[number], slice(at[number], at[number] + length)
        parts.append(
            Points(whole.series, whole.steps[part], whole.times[part], whole.values[:, part])
        )
        at[number] += length
    return Trace(name, run["seed"], about, run["facts"], run["ending"], tuple(parts))


def run_id_of(name: str, seed: int) -> str:
    """A run id that is the same each time it is read."""
    return hashlib.sha256(f"{name}/{seed}".encode()).hexdigest()[:32]


# --- the split -----------------------------------------------------------------------------------


def half(name: str) -> Half:
    """The half of the corpus a program belongs to, with all its seeds. Raises `KeyError`."""
    return _split()[name]


@cache
def _split() -> dict[str, Half]:
    return {name: one["half"] for name, one in json.loads(SPLIT.read_text()).items()}


def assign(name: str, about: About, wanted: Half | None = None) -> Half:
    """The half of a program: once given it never changes, whatever programs come later.

    The wanted one; else the half that has fewer programs of the same group (cause, or family of a
    healthy one); else the one with fewer on the same side (sick or healthy); else by the hash of
    the name.
    """
    with open(SPLIT, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known: dict[str, dict[str, Any]] = json.loads(file.read() or "{}")
        if name not in known:
            group = about.cause if about.sick else about.family
            given = wanted or _fewer(known, name, about.sick, group)
            known[name] = {"half": given, "sick": about.sick, "group": group}
            file.truncate(0)
            file.write(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    _split.cache_clear()
    return known[name]["half"]


def _fewer(known: dict[str, dict[str, Any]], name: str, sick: bool, group: str) -> Half:
    side = [one for one in known.values() if one["sick"] == sick]
    for alike in ([one for one in side if one["group"] == group], side):
        tuned, scored = (sum(one["half"] == half for one in alike) for half in HALVES)
        if tuned != scored:
            return HALVES[tuned > scored]
    return HALVES[hashlib.sha256(name.encode()).digest()[0] % 2]
