"""Points as text: the long form in CSV and the canonical JSON lines. Pure.

Numbers are written so that reading gives the same bits: the shortest text of a float, and words for
what no number is (`nanwatch.contract.lines.special`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from nanwatch.contract.kinds import KINDS
from nanwatch.contract.lines import special
from nanwatch_server.domain.models import Run, RunMark, Series
from nanwatch_server.domain.points import Points

CSV_HEADER = "stage,scope,kind,layer,rank,step,time,value\n"
LINE_CHARS = 1 << 16
"""A record longer than this is written in several lines of one step."""
FORMAT = "nanwatch.points/1"
"""In the first line of JSON lines: names are as they are stored, nothing is to be guessed."""


def csv_rows(points: Points) -> Iterator[str]:
    """One line for each value, step by step."""
    heads = [f"{s.stage},{s.scope},{s.kind},{s.layer},{s.rank}" for s in points.series]
    values = [_texts(row, "{}") for row in points.values]
    steps, times = points.steps.tolist(), points.times.tolist()
    for at, (step, time) in enumerate(zip(steps, times, strict=True)):
        middle = f",{step},{time!r},"
        yield "".join(f"{head}{middle}{row[at]}\n" for head, row in zip(heads, values, strict=True))


def _texts(values: np.ndarray, word: str) -> list[str]:
    """Each value as a text; `word` is put around what is no number."""
    plain = [repr(value) for value in values.tolist()]
    for at in np.flatnonzero(~np.isfinite(values)).tolist():
        plain[at] = word.format(special(float(values[at])))
    return plain


def head_line(run: Run) -> str:
    """The first line of JSON lines: what the run is, and its configuration."""
    told = {"event": "config", "format": FORMAT, "run": run.id, "project": run.project}
    told |= {"name": run.name, "config": {**run.facts, **run.config}}
    return _json(told)


def mark_line(mark: RunMark) -> str:
    """A mark, word for word; `event` is what other readers take it for."""
    event = {"task": "task_start", "eval": "eval_start"}.get(mark.what, mark.what)
    said = {"what": mark.what, "text": mark.text, "data": mark.data}
    if event == "config":
        return _json({"event": event, "step": max(mark.step, 0), "time": mark.at, "mark": said}
                     | {"config": mark.data})  # fmt: skip
    return _json({"event": event, "step": max(mark.step, 0), "time": mark.at, "mark": said})


def json_lines(points: Points) -> Iterator[str]:
    """One object for each step of points of one rank and stage."""
    rank, stage = points.series[0].rank, points.series[0].stage
    own = (f',"rank":{rank}' if rank else "") + (
        f',"stage":{json.dumps(stage)}' if stage != "train" else ""
    )
    parts = _line_parts(points.series)
    values = [_texts(row, '"{}"') for row in points.values]
    steps, times = points.steps.tolist(), points.times.tolist()
    for at, (step, time) in enumerate(zip(steps, times, strict=True)):
        head = f'{{"step":{step},"time":{time!r}{own}'
        for part in parts:
            yield head + "".join(_member(one, values, at) for one in part) + "}\n"


Member = tuple[str, int | list[tuple[str, int]]]
"""`,"key":` and the row of its value, or of each layer's."""


def _member(member: Member, values: Sequence[list[str]], at: int) -> str:
    key, rows = member
    if isinstance(rows, int):
        return key + values[rows][at]
    return key + "{" + ",".join(f"{layer}{values[row][at]}" for layer, row in rows) + "}"


def _line_parts(series: Sequence[Series]) -> list[list[Member]]:
    """The members of a line; of several, where one would be too long or a key would come twice."""
    plain: list[Member] = []
    layered: dict[str, list[tuple[str, int]]] = {}
    for row, one in enumerate(series):
        # A kind that this version does not know keeps its name, as a series of the user's.
        known = one.kind in KINDS
        kind = one.kind if known else "custom"
        layer = one.layer if known else f"{one.kind}/{one.layer}".rstrip("/")
        key = f",{json.dumps(f'{one.scope}.{kind}' if one.scope else kind)}:"
        if layer:
            layered.setdefault(key, []).append((f"{json.dumps(layer)}:", row))
        else:
            plain.append((key, row))
    taken = {key for key, _ in plain}
    parts: list[list[Member]] = [[]]
    size = 0
    for key, rows in [*plain, *layered.items()]:
        pieces: list[int | list[tuple[str, int]]] = [rows] if isinstance(rows, int) else _cut(rows)
        for piece in pieces:
            more = len(key) + 32
            if not isinstance(piece, int):
                more += sum(len(layer) + 32 for layer, _ in piece)
            again = not isinstance(piece, int) and (key in taken or len(pieces) > 1)
            if parts[-1] and (again or size + more > LINE_CHARS):
                parts.append([])
                size = 0
            parts[-1].append((key, piece))
            size += more
    return parts


def _cut(rows: list[tuple[str, int]]) -> list[int | list[tuple[str, int]]]:
    """Layers of one kind in pieces that fit into a line."""
    pieces: list[int | list[tuple[str, int]]] = []
    some: list[tuple[str, int]] = []
    size = 0
    for layer, row in rows:
        if some and size > LINE_CHARS // 2:
            pieces.append(some)
            some, size = [], 0
        some.append((layer, row))
        size += len(layer) + 32
    return [*pieces, some]


def _json(told: dict) -> str:
    return json.dumps(told, ensure_ascii=False) + "\n"
