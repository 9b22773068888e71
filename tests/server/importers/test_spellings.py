"""Numbers as C libraries and other countries write them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from nanwatch_server.importers import columns
from tests.server.importers.reading import read

NANS = ["nan", "NaN", "+nan", "-nan", "nan(ind)", "-nan(ind)", "NAN(snan)", "nan(0x7ff)", "1.#QNAN",
        "1.#QNAN0", "-1.#IND", "-1.#IND00", "1.#SNAN", "NaNQ"]  # fmt: skip
INFS = ["inf", "+inf", "Infinity", "+Infinity", "INF", "1.#INF", "1.#INF00", "∞", "+∞"]
MINUS = ["-inf", "-Infinity", "-1.#INF", "-1.#INF000", "-∞", "−∞", "−inf"]
TEXTS = ["nano", "info", "1.#", "#INF", "in", "nan)", "infinite", "", "-", "1.#INFO"]


@pytest.mark.parametrize("text", [*NANS, *INFS, *MINUS])
def test_every_spelling_in_every_format(tmp_path: Path, text: str) -> None:
    """CSV, one value a row, JSON lines with and without quotes, a JSON list."""
    (tmp_path / "a.csv").write_text(f"step,loss,lr\n1,0.5,1\n2,{text},1\n")
    (tmp_path / "b.csv").write_text(f"metric,step,value\nloss,1,0.5\nloss,2,{text}\n")
    whole = f'{{"step": 1, "loss": 0.5}}\n{{"step": 2, "note": "a nan, an inf", "loss": {text}}}\n'
    (tmp_path / "c.jsonl").write_text(whole)
    quoted = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": text}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(one) + "\n" for one in quoted))
    (tmp_path / "e.json").write_text(f"[\n{','.join(whole.splitlines())}]")
    for name in ("a.csv", "b.csv", "c.jsonl", "d.jsonl", "e.json"):
        got = read(tmp_path / name)
        assert got.points("loss")[0] == (1, 0.5), name
        step, value = got.points("loss")[1]
        expected = math.nan if text in NANS else -math.inf if text in MINUS else math.inf
        assert step == 2 and repr(value) == repr(expected), name
        assert not got.source.problems.count, name


def test_what_is_no_number_stays_a_text() -> None:
    assert [columns.number(one) for one in TEXTS] == [None] * len(TEXTS)
    assert columns.number("−2.5") == -2.5 and columns.number("2,5") is None
    assert math.copysign(1, columns.number("-nan(ind)") or 0) == -1
    broken = '{"step":1,"loss":nan,"said":"nan and -inf \\" 1.#QNAN","x":banana}'
    assert columns.quoted(broken) == broken.replace(":nan,", ':"nan",')


def test_a_string_that_is_never_closed_is_looked_through_once() -> None:
    for end in ("", "\\", "\\\n", "\n", " nan", "\\\nnan"):
        assert columns.quoted('[nan, "a' + end) == '["nan", "a' + end
    script = (
        "from nanwatch_server.importers.columns import quoted\n"
        "for end in ('', chr(92), chr(92) + chr(10)):\n"
        "    text = '\"' + 'a' + chr(92) + '\"'\n"
        "    text = text[:1] + text[1:] * 400_000 + end\n"
        "    assert quoted(text) == text\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *[("2,5", 2.5), ("-0,25", -0.25), ("1.234,5", 1234.5), ("1.234.567,25", 1234567.25)],
        *[("1 234,5", 1234.5), ("1,5E-05", 1.5e-5), (",5", 0.5), ("2.5", 2.5), ("7", 7.0)],
        *[("nan", math.nan), ("1,2,3", None), ("12.34,5", None), (",", None), ("a,5", None)],
    ],
)
def test_decimal_commas(cell: str, value: float | None) -> None:
    assert repr(columns.comma_number(cell)) == repr(value)


def test_a_table_with_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("step;loss;grad_norm;time_elapsed\n1;2,5;1e3;0,5\n2;-0,125;1,5E-05;1,5\n")
    got = read(path)
    assert got.points("loss") == [(1, 2.5), (2, -0.125)]
    assert got.points("grad_norm") == [(1, 1000.0), (2, 1.5e-5)]
    assert [row.time for row in got.rows] == [0.5, 1.5] and not got.source.problems.count
    path.write_text("metric;step;value\nloss;1;2,5\nloss;2;∞\n")
    assert read(path).points("loss") == [(1, 2.5), (2, math.inf)]
    path.write_text("step\tloss\n1\t2.5\n2\t1.#INF\n")
    assert read(path).points("loss") == [(1, 2.5), (2, math.inf)]
