"""TensorBoard event files of one folder: scalars, and the configuration in texts and hparams.

Records are cut out of the files by `records` (the library checks sums in Python, at a tenth of the
speed); what is in them is read by tensorboard's own classes.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nanwatch.contract.frames import Mark
from nanwatch_server.importers.records import Gap, RecordReader
from nanwatch_server.importers.rows import Item, usable_step
from nanwatch_server.importers.source import Options, Source, UnusableError

NAME_PART = "tfevents"
HPARAMS_BYTES_MAX = 1 << 20
"""Larger event files in a folder below hold more than the configuration of a session."""

_CELL = re.compile(r"^\|\s*([^|]+?)\s*\|\s*([^|]*?)\s*\|\s*$", re.MULTILINE)
_CONFIG_TAGS = ("hyperparameters", "hparams", "args", "config", "params")


def event_files(folder: Path) -> list[Path]:
    """Event files of a folder, oldest first by name."""
    return sorted(one for one in folder.iterdir() if NAME_PART in one.name and one.is_file())


def _event_class() -> Any:
    try:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore
    except ImportError as error:
        raise UnusableError(
            f"TensorBoard files need the package tensorboard ({error.name} is missing): "
            "pip install tensorboard"
        ) from None
    return Event


class _Points:
    """Points in order of arrival, in plain arrays."""

    def __init__(self) -> None:
        self.lives, self.ids = array("q"), array("q")
        self.steps = array("q")
        self.times, self.values = array("d"), array("d")

    def add(self, life: int, step: int, time: float, one: int, value: float) -> None:
        self.lives.append(life)
        self.steps.append(step)
        self.times.append(time)
        self.ids.append(one)
        self.values.append(value)

    def columns(self) -> tuple[np.ndarray, ...]:
        """lives, steps, times, ids, values."""
        whole = (self.lives, self.steps, self.times, self.ids, self.values)
        return tuple(np.array(column) for column in whole)


class EventFolder(Source):
    """One run: the event files of a folder, those of a resumed training one behind the other."""

    format = "TensorBoard"

    def __init__(self, path: Path, name: str, options: Options) -> None:
        super().__init__(path, name, options)
        self._event = _event_class()
        self._readers: dict[Path, RecordReader] = {}
        self._newest: dict[Path, int] = {}
        """Step of the newest number of a file."""
        self._gaps: dict[Path, list[str]] = {}
        """What was lost of a file since its newest number, in words."""
        self._points = _Points()
        self._life = 0
        """Counts how often steps went back: the training was resumed."""
        self._last: dict[int, tuple[int, int]] = {}
        self._emitted_life = 0
        self._configured: dict[str, str] = {}
        self._sessions()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self._files())

    def _files(self) -> list[Path]:
        return event_files(self.path) if self.path.is_dir() else [self.path]

    def read(self) -> Iterator[list[Item]]:
        """What there is now. Points come in the order of their steps, not of their tags: at the
        end, or, when following, as soon as a later step is there."""
        for path in self._files():
            reader = self._readers.setdefault(path, RecordReader(path))
            for record in reader.records(last=not self.options.follow):
                if isinstance(record, Gap):
                    self._gaps.setdefault(path, []).append(f"{record.size:,} damaged bytes")
                    self.done += record.size
                    continue
                self._record(record, path)
                self.done += len(record)
                if not len(self._points.steps) % 4_096:
                    yield []
            if not self.options.follow:
                self._ended(reader)
        if self.options.follow:
            yield from self._emit(whole=False)

    def release(self) -> list[Item]:
        """Also the newest step."""
        items = [item for part in self._emit(whole=True) for item in part]
        return items + super().release()

    def finish(self) -> list[Item]:
        """The rest."""
        if self.options.follow:
            for reader in self._readers.values():
                self._ended(reader)
        return self.release()

    # --- damage -------------------------------------------------------------------------------

    def _arrived(self, path: Path, step: int) -> None:
        """A number could be read again: between which steps there is a gap is known."""
        if gaps := self._gaps.pop(path, None):
            since = self._newest.get(path)
            where = f"before step {step}" if since is None else f"between steps {since} and {step}"
            self.problems.gone(f"{path.name}: {' and '.join(gaps)} left out {where}")
        self._newest[path] = step

    def _ended(self, reader: RecordReader) -> None:
        """Nothing more comes: what could not be read at the end of a file."""
        path, gaps = reader.path, self._gaps.pop(reader.path, [])
        if left := reader.left:
            gaps.append(f"{left:,} bytes at its end are no record")
        if gaps:
            since = self._newest.get(path)
            what = "nothing" if since is None else f"nothing behind step {since}"
            size = f"{reader.at + left:,}"
            self.problems.gone(
                f"{path.name}: {' and '.join(gaps)}: {what} could be read (of {size} bytes)"
            )

    # --- records ------------------------------------------------------------------------------

    def _record(self, record: bytes, path: Path) -> None:
        try:
            event = self._event.FromString(record)
        except Exception as error:  # protobuf's own class differs between its versions
            self.problems.bad(f"{path.name}: a record cannot be read: {error}")
            return
        step = usable_step(event.step)
        if step is not None and event.summary.value:
            self._arrived(path, step)
        for value in event.summary.value:
            which = value.WhichOneof("value")
            if which == "simple_value":
                number: float | None = value.simple_value
            elif which == "tensor":
                number = self._of_tensor(value)
            else:
                number = None
            if value.tag.startswith("_hparams_/"):
                self._of_session(value)
            elif number is None:
                continue
            elif step is None:
                self.problems.bad(f"{path.name}: expected a step from 0, got {event.step}")
            else:
                self._point(value.tag, step, event.wall_time, number)

    def _point(self, tag: str, step: int, time: float, number: float) -> None:
        one = self.id_of(tag)
        if one < 0:
            return
        life, last = self._last.get(one, (self._life, -1))
        if life == self._life and step < last:
            self._life += 1
        self._last[one] = self._life, step
        self._points.add(self._life, step, time, one, number)

    def _of_tensor(self, value: Any) -> float | None:
        """A scalar that TensorFlow 2 wrote; texts that hold a configuration are learnt."""
        tensor = value.tensor
        if tensor.string_val:
            self._of_text(value.tag, tensor.string_val[0])
            return None
        from tensorboard.util.tensor_util import make_ndarray

        try:
            found = make_ndarray(tensor)
        except (TypeError, ValueError):
            return None
        return float(found.reshape(())) if found.size == 1 and found.dtype.kind in "fiu" else None

    def _of_text(self, tag: str, text: bytes) -> None:
        """`add_text("hyperparameters", "|param|value|…")`, or the JSON of transformers."""
        if not any(word in tag.lower() for word in _CONFIG_TAGS):
            return
        said = text.decode("utf-8", "replace")
        try:
            nested = json.loads(said)
        except ValueError:
            cells = _CELL.findall(said)
            nested = {key: value for key, value in cells if key.strip("-: ") and key != "param"}
        if isinstance(nested, dict):
            self._learn(nested)

    def _of_session(self, value: Any) -> None:
        from google.protobuf.json_format import MessageToDict
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore

        try:
            data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        except Exception as error:  # protobuf's own class differs between its versions
            self.problems.bad(f"{self.path.name}: hparams cannot be read: {error}")
            return
        if data.HasField("session_start_info"):
            told = MessageToDict(data.session_start_info).get("hparams", {})
            self._learn(told)

    def _learn(self, nested: dict[str, Any]) -> None:
        before = dict(self.config)
        self.learn(nested)
        fresh = {key: text for key, text in self.config.items() if before.get(key) != text}
        if fresh:
            mark = Mark(what="config", step=self.rows.step, time=0.0, text="config", data=fresh)
            self.rows.mark(mark)

    def _sessions(self) -> None:
        """torch's `add_hparams` writes the configuration into a folder below."""
        if not self.path.is_dir():
            return
        for folder in sorted(one for one in self.path.iterdir() if one.is_dir()):
            for file in event_files(folder):
                if file.stat().st_size <= HPARAMS_BYTES_MAX:
                    for record in RecordReader(file).records(last=True):
                        if isinstance(record, bytes) and b"_hparams_/" in record:
                            self._record(record, file)

    # --- rows ---------------------------------------------------------------------------------

    def _emit(self, *, whole: bool) -> Iterator[list[Item]]:
        lives, steps, times, ids, values = self._points.columns()
        self._points = _Points()
        if not len(steps):
            return
        order = np.lexsort((steps, lives))
        lives, steps, times, ids, values = (
            column[order] for column in (lives, steps, times, ids, values)
        )
        newest = (lives == lives[-1]) & (steps == steps[-1])
        keep = 0 if whole else int(newest.sum())
        upto = len(steps) - keep
        for at in range(upto, len(steps)):  # may still get values of other tags
            self._points.add(
                int(lives[at]), int(steps[at]), float(times[at]), int(ids[at]), float(values[at])
            )
        yield from self._emit_rows(lives[:upto], steps[:upto], times[:upto], ids[:upto],
                                   values[:upto])  # fmt: skip

    def _emit_rows(self, lives: Any, steps: Any, times: Any, ids: Any, values: Any) -> Any:
        same = (np.diff(lives) == 0) & (np.diff(steps) == 0)
        edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(steps)]
        lives, steps, times = lives.tolist(), steps.tolist(), times.tolist()
        ids, values = ids.tolist(), values.tolist()
        for count in range(len(edges) - 1):
            start, stop = edges[count], edges[count + 1]
            if start == stop:
                continue
            if lives[start] > self._emitted_life:
                self._emitted_life = lives[start]
                text = f"resume: step {steps[start]} after {self.rows.step}"
                self.rows.mark(Mark(what="resume", step=steps[start], time=times[start], text=text))
            mine = tuple(ids[start:stop])
            time = times[start] if math.isfinite(times[start]) else None
            if len(set(mine)) == len(mine):
                self.rows.add(steps[start], time, mine, values[start:stop])
            else:  # a tag twice at one step
                for one, value in zip(mine, values[start:stop], strict=True):
                    self.rows.add(steps[start], time, (one,), (value,))
            if count % 4_096 == 4_095:
                yield self.rows.take()
        yield self.rows.take()
