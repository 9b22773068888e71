"""Files that are no logs, and logs with a part that cannot be read."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

import pytest

from nanwatch_server.importers import records
from nanwatch_server.importers.discover import find
from nanwatch_server.importers.source import NothingYetError, Options, UnusableError
from tests.server.importers.reading import Read, read, read_all

ROWS = "step,loss\n1,2\n2,3\n"
LINES = '{"step":1,"loss":2}\n{"step":2,"loss":3}\n'
WHOLE = (
    b"",
    ROWS.encode(),
    LINES.encode(),
    b'{"log_history":[{"step":1,"loss":NaN}]}',
    b'{"format":"nanwatch.points/1","config":{}}\n{"step":1,"mark":{"data":[]}}\n',
    b'{"step":"x","event":{}}\n{"step":1,"mark":{"what":"note"}}\n',
)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\r\r\n", "\n"])
@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz", "m.jsonl", "progress"])
def test_line_ends_of_every_system(tmp_path: Path, end: str, name: str) -> None:
    text = (LINES if "jsonl" in name else ROWS).replace("\n", end)
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    for cut in (data, data.rstrip(b"\r\n")):  # with and without the end of the last line
        (tmp_path / name).write_bytes(gzip.compress(cut) if name.endswith("gz") else cut)
        got = read(tmp_path / name)
        assert got.points("loss") == [(1, 2.0), (2, 3.0)] and not got.source.problems.count


def test_an_old_mac_s_part_between_others(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'step,loss,note\n1,2,a\r2,3,b\r3,4,c\n4,5,"x\ry"\n5,6,d\n')
    got = read(tmp_path / "a.csv")
    assert got.points("loss") == [(step, step + 1.0) for step in range(1, 6)]


def test_a_mac_s_log_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"step,loss\r1,2\r2,")
    (source,) = find(path, Options(follow=True)).sources
    list(source.read())
    with open(path, "ab") as file:
        file.write(b"3\r3,4\r")
    assert Read(source).points("loss") == [(1, 2.0), (2, 3.0), (3, 4.0)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes(range(256)) * 9, "expected a first line with names of columns, got binary data"),
        (random.Random(1).randbytes(4_000), "got binary data"),
        (b"\x89PNG\r\n\x1a\n\0\0", "got binary data"),
        (b"PK\x03\x04\x14\0\r\0xl/workbook.xml", "got binary data"),
        (bytes(5_000), "got binary data"),
        (ROWS.encode("utf-16"), "in UTF-8, got UTF-16: save it as UTF-8"),
        (b'step,"' + b"x" * (3 << 20) + b'"\n1,2\n', "field larger than"),
    ],
)
def test_a_binary_file_is_refused_and_the_others_of_its_folder_are_read(
    tmp_path: Path, data: bytes, words: str
) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    (tmp_path / "b.csv").write_text(ROWS)
    (tmp_path / "c.csv").write_bytes(ROWS.replace("\n", "\r").encode())
    with pytest.raises(UnusableError, match=words):
        find(tmp_path / "a.csv")
    found = find(tmp_path)
    assert [source.name for source in found.sources] == ["b", "c"]
    assert len(found.passed_over) == 1 and words in found.passed_over[0]
    assert all(got.points("loss") == [(1, 2.0), (2, 3.0)] for got in read_all(tmp_path))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.csv.gz", "a.tsv", "a.parquet",
                                  "events.out.tfevents.1", "trainer_state.json"])  # fmt: skip
def test_no_file_ends_reading_with_an_error_of_ours(tmp_path: Path, name: str) -> None:
    """Random bytes, and logs of ours with random damage."""
    rng = random.Random(name)
    path = tmp_path / name
    for trial in range(60):
        base = WHOLE[trial % len(WHOLE)]
        data = bytearray(base * 20 or rng.randbytes(500))
        for _ in range(rng.randrange(8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(gzip.compress(data)[: rng.randrange(30, 400)] if "gz" in name else data)
        try:
            read_all(path)
        except UnusableError as error:
            assert str(error)


def test_a_log_that_is_followed_may_still_come(tmp_path: Path) -> None:
    follow = Options(follow=True)
    with pytest.raises(NothingYetError, match="expected logs in"):
        find(tmp_path, follow)
    path = tmp_path / "a.csv"
    for begun in ("", "step,lo"):  # half a header is none
        path.write_text(begun)
        with pytest.raises(NothingYetError):
            find(path, follow)
    path.write_text(ROWS)
    assert len(find(tmp_path, follow).sources) == 1
    with pytest.raises(UnusableError) as caught:
        find(tmp_path / "absent", follow)
    assert not isinstance(caught.value, NothingYetError), "a name that is wrong"


# --- event files ---------------------------------------------------------------------------------


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """800 losses as torch writes them."""
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path / "run")) as writer:
        for step in range(800):
            writer.add_scalar("loss", step, step)
    (path,) = (tmp_path / "run").iterdir()
    return path


DAMAGE = {
    "a bit of a length": lambda data: data[:2_900] + bytes([data[2_900] ^ 1]) + data[2_901:],
    "zeros": lambda data: data[:3_000] + bytes(5_000) + data[8_000:],
    "noise": lambda data: data[:3_000] + random.Random(2).randbytes(5_000) + data[8_000:],
    "a part is missing": lambda data: data[:3_000] + data[3_333:],
    "something between": lambda data: data[:3_000] + b"garbage" * 10 + data[3_000:],
    "the beginning is missing": lambda data: data[30:],
    "twice": lambda data: data[:3_000] + bytes(99) + data[3_099:6_000] + bytes(9) + data[6_009:],
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("block", [101, 4 << 20])
def test_what_stands_behind_damage_is_read(
    events: Path, monkeypatch: pytest.MonkeyPatch, what: str, block: int
) -> None:
    monkeypatch.setattr(records, "_READ_BYTES", block)
    whole = events.read_bytes()
    events.write_bytes(DAMAGE[what](whole))
    got = read(events.parent)
    points = got.points("loss")
    assert len(points) >= 680 and points[-1] == (799, 799.0)
    assert all(step == value for step, value in points), "no damaged number is taken for one"
    assert len(got.source.problems.lost) == (2 if what == "twice" else 1)
    if what != "the beginning is missing":
        missing = sorted(set(range(800)) - {step for step, _ in points})
        where = f"left out between steps {missing[0] - 1} and "
        assert "damaged bytes" in got.source.problems.lost[0]
        assert where in got.source.problems.lost[0] and not got.marks


def _record(body: bytes, *, damaged: bool = False) -> bytes:
    head = struct.pack("<Q", len(body))
    sums = [struct.pack("<I", records._sum_of(part)) for part in (head, body)]
    return bytes([head[0] ^ damaged]) + head[1:] + sums[0] + body + sums[1]


def test_much_damage_is_searched_no_further_than_the_next_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[int] = []
    heads_in = records._heads_in

    def counted(data: bytes, start: int, count: int) -> list[int]:
        places.append(count)
        return heads_in(data, start, count)

    monkeypatch.setattr(records, "_heads_in", counted)
    pair = _record(b"a" * 44) + _record(b"b" * 44, damaged=True)
    (tmp_path / "events").write_bytes(pair * 1_000)
    found = list(records.RecordReader(tmp_path / "events").records(last=True))
    assert found.count(b"a" * 44) == 1_000 and found.count(records.Gap(60)) == 999
    assert sum(places) <= 1_000 * records._WINDOW_BYTES, "not all of the rest each time"


def test_a_record_behind_long_damage_and_one_of_many_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_READ_BYTES", 100)
    noise, long = random.Random(3).randbytes(50_000), random.Random(4).randbytes(70_000)
    (tmp_path / "events").write_bytes(_record(b"a") + noise + _record(long) + _record(b"b"))
    found = list(records.RecordReader(tmp_path / "events").records(last=True))
    assert found == [b"a", records.Gap(50_000), long, b"b"]


def test_how_much_was_lost_at_the_end_is_said(events: Path) -> None:
    whole = events.read_bytes()
    events.write_bytes(whole[:3_000] + bytes(len(whole) - 3_000))
    got = read(events.parent)
    (lost,) = got.source.problems.lost
    last = got.points("loss")[-1][0]
    assert f"nothing behind step {last} could be read (of {len(whole):,} bytes)" in lost
    events.write_bytes(bytes(9_000))
    nothing = read(events.parent)
    assert not nothing.rows and "nothing could be read" in nothing.source.problems.lost[0]


def test_zeros_that_are_filled_later_lose_nothing(events: Path) -> None:
    """A network's file system may show a page before its bytes."""
    whole = events.read_bytes()
    events.write_bytes(whole[:3_000] + bytes(2_000))
    (source,) = find(events.parent, Options(follow=True)).sources
    items = [item for part in source.read() for item in part]
    events.write_bytes(whole)
    items += [item for part in source.read() for item in part]
    items += source.finish()
    assert len(items) == 800 and not source.problems.count


def test_a_state_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    text = '{"log_history": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": -nan}]}'
    path.write_text(text[:40])
    (source,) = find(path, Options(follow=True)).sources
    assert not list(source.read())
    path.write_text(text)
    got = Read(source)
    assert [step for step, _ in got.points("loss")] == [1, 2] and not got.source.problems.count
    path.write_text(text[:40])
    (source,) = find(path, Options(follow=True)).sources
    assert "expected JSON" in Read(source).source.problems.shown[0]


def test_an_event_file_that_is_deleted_while_it_is_followed(events: Path) -> None:
    (source,) = find(events.parent, Options(follow=True)).sources
    rows = [item for part in source.read() for item in part]
    events.unlink()
    rows += [item for part in source.read() for item in part] + source.finish()
    assert len(rows) == 800 and not source.problems.count
