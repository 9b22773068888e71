"""What a message says, and that nothing in it comes alive."""

from __future__ import annotations

import json
import re

import pytest

from nanwatch_server.domain.models import IncidentState, Run, Severity
from nanwatch_server.notify.message import (
    LISTED_MAX,
    TITLE_CHARS_MAX,
    News,
    clean,
    compose,
    duration,
    sample,
)
from tests.server.notify.kit import CAUSE, incident, replace
from tests.server.wire import RUN

NOW = 1_800_000_000.0 + 180
NAME = "sac-ant"


def link(path):
    return f"https://nan.example{path}"


def run(id=RUN, name=NAME):
    return Run(id=id, project="rl", name=name, created_at=1.0, started_at=1.0)


def one(made, **of_run):
    return News(made, run(**of_run))


def test_what_since_when_why_how_long_what_to_try_and_where():
    said = compose([one(incident(Severity.CRITICAL))], link, NOW)
    assert said.title == "Critical: Gradients double every 40 steps · sac-ant"
    assert said.plain.splitlines() == [
        "Run: sac-ant, project rl",
        "What: The gradient norm has doubled every 40 steps since step 9120.",
        "Since: step 9 120; seen at step 9 380, 08:00 UTC, 3 min ago",
        "Why: The norm before clipping is 41 against a limit of 5.",
        "Numbers: norm before clipping 41.2 (limit 5.0)",
        "Left: Overflow in about 900 steps.",
        "Try: lower the LR, 3e-4 to 3e-5 (--lr 3e-5), treats cause",
        "Or: clip to 1.0, masks symptom",
        "Open: https://nan.example/a/i1",
    ]
    assert said.level == "failure"
    assert "**Why:** The norm before clipping is 41 against a limit of 5." in said.markdown
    assert "[Open](https://nan.example/a/i1)" in said.markdown
    data = said.data
    assert data["event"] == "incident.firing"
    assert data["incident"]["dedup_key"] == "i1" and data["incident"]["status"] == "firing"
    assert data["incident"]["run"] == {
        "id": RUN, "project": "rl", "name": NAME, "url": f"https://nan.example/r/{RUN}",
    }  # fmt: skip
    assert data["incident"]["suggestions"][0]["copy"] == "--lr 3e-5"
    assert data["incident"]["values"][0]["value"] == "41.2", "metric values are text"
    json.dumps(data, allow_nan=False)


def test_the_end_says_how_long_it_lasted():
    said = compose([one(incident(state=IncidentState.RESOLVED))], link, NOW)
    assert said.title == "Over: Gradients double every 40 steps · sac-ant"
    assert "Over: since step 9 800, after 12 min" in said.plain
    assert said.level == "success" and said.data["event"] == "incident.resolved"
    assert "Try:" not in said.plain


def test_more_of_one_run_goes_along_and_many_runs_make_a_list():
    news = [one(incident(Severity.CRITICAL)), one(incident(id="i2"))]
    said = compose(news, link, NOW)
    assert "Also: Caution: Gradients double every 40 steps" in said.plain
    assert "Open: https://nan.example/a/i2" in said.plain
    assert [other["id"] for other in said.data["more"]] == ["i2"]
    many = [one(incident(id=f"i{n}", run=f"{n:032x}"), id=f"{n:032x}", name=f"n{n}")
            for n in range(30)]  # fmt: skip
    many.append(one(incident(Severity.CRITICAL, id="worst", run="f" * 32), id="f" * 32))
    said = compose(many, link, NOW)
    assert said.title == "Critical: 31 runs need attention"
    assert said.plain.startswith("Critical: Gradients double every 40 steps · sac-ant (rl)")
    assert f"and {31 - LISTED_MAX} more runs" in said.plain
    assert said.data["incident"]["id"] == "worst" and len(said.data["more"]) == LISTED_MAX


EVIL = [
    "@everyone",
    "<!channel>",
    "<@U012345>",
    "[click](https://evil.example)",
    "<https://evil.example|nanwatch>",
    "https://evil.example/login",
    "**bold** `code` _it_ ~~no~~ ||spoiler||",
    "# heading",
    "<script>alert(1)</script>",
    "line\nCritical: made up\r\nBcc: all@x",
    "\u202eesrever\u2066",
    "a\x00b\x1b[31mred",
]


@pytest.mark.parametrize("evil", EVIL)
def test_names_and_texts_of_a_run_never_come_alive(evil):
    cause = replace(CAUSE, title=evil, what=evil, why=evil, forecast=evil)
    said = compose([one(incident(diagnosis=cause), name=evil)], link, NOW)
    listed = compose([one(incident(diagnosis=cause), name=evil, id=f"{n}" * 32) for n in range(3)],
                     link, NOW)  # fmt: skip
    for text in (said.title, said.plain, said.markdown, listed.plain, listed.markdown):
        for word in ("@everyone", "@U0", "@x", "https://evil", "\r", "\x00", "\x1b", "\u202e"):
            assert word not in text
    assert "\n" not in said.title
    assert "made up" not in [line.split(":")[0] for line in said.plain.splitlines()]
    assert not any(line.startswith(("Bcc", "Critical")) for line in said.plain.splitlines())
    # `**What:**` and `[Open](…)` are ours; everything else is escaped.
    theirs = (said.markdown + said.marked_title + listed.markdown).replace("**", "")
    theirs = theirs.replace("[Open](", "").replace("[Open the wall](", "")
    assert not re.search(r"(?<!\\)[*_`\[\]<>~|#]", theirs), theirs


def test_markdown_of_names_reads_as_the_names():
    said = compose([one(incident(), name="a_b_c*")], link, NOW)
    assert r"**Run:** a\_b\_c\*, project rl" in said.markdown
    assert "Run: a_b_c*, project rl" in said.plain


def test_long_texts_are_cut():
    cause = replace(CAUSE, title="x" * 5000, what="y" * 5000)
    said = compose([one(incident(diagnosis=cause))], link, NOW)
    assert len(said.title) == TITLE_CHARS_MAX and said.title.endswith("…")
    assert len(said.plain) < 4000


def test_small_things():
    assert [duration(s) for s in (0, 59, 60, 3599, 3600, 11_400, 187_200)] == [
        "0 s", "59 s", "1 min", "59 min", "1 h", "3 h 10 min", "2 d 4 h",
    ]  # fmt: skip
    assert clean("  a\t b \u200b c ") == "a b c"
    assert "https://nan.example/" in sample(link, NOW).plain
