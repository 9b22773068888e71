"""What a message says: of one incident, of several, a sample. Pure.

In three forms: plain text, Markdown (CommonMark), and data for a webhook. Names and texts of a run
are never markup, a mention or a link, whatever they hold; the only link is our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nanwatch_server.domain.models import Incident, IncidentState, Run, Severity

TITLE_CHARS_MAX = 160
TEXT_CHARS_MAX = 700
SUGGESTIONS_MAX = 3
NUMBERS_MAX = 4
LISTED_MAX = 20
"""Incidents or runs that one message names."""

WORDS = {Severity.CRITICAL: "Critical", Severity.WARNING: "Caution", Severity.NOTICE: "Advisory"}
TREATS = {"cause": "treats cause", "symptom": "masks symptom"}

# Controls, and characters that turn the direction of text or cannot be seen.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_MARKUP = re.compile(r"([\\`*_\[\]<>~|#])")
_BREAK = "\u200b"
"""Has no width; a name with it is no mention and no link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent, for every kind of channel."""

    title: str
    """Plain text, in one line."""
    marked_title: str
    """The same as Markdown."""
    plain: str
    markdown: str
    level: str
    """`info`, `success`, `warning` or `failure`: how a service colours it."""
    data: dict[str, Any] = field(default_factory=dict)
    """Body of a signed webhook, besides its id and time."""


Link = Callable[[str], str]
"""Path of a page → its address as people reach it."""


@dataclass(frozen=True, slots=True)
class News:
    """An incident as it is now, and its run."""

    incident: Incident
    run: Run


def compose(news: Sequence[News], link: Link, now: float) -> Message:
    """One message of everything there is to say to a channel; the first is the one that matters.

    Of one incident it says what, since when, why, how long is left and what to try. More incidents
    of the same run are listed below it; of several runs there is only a list.
    """
    if len({one.run.id for one in news}) > 1:
        return _list(news, link)
    lines = _Lines()
    _incident(lines, news[0], link, now)
    _more(lines, news[1:], link)
    first = news[0].incident
    title = _title(news[0])
    return Message(
        title=title,
        marked_title=escaped(title),
        plain=lines.plain,
        markdown=lines.markdown,
        level=_level(first),
        data={
            "event": f"incident.{'resolved' if _over(first) else 'firing'}",
            "incident": _data(news[0], link),
            "more": [_data(one, link) for one in news[1 : LISTED_MAX + 1]],
        },
    )


def sample(link: Link, now: float) -> Message:
    """What the test button sends."""
    lines = _Lines()
    lines.say("", "This is a test from nanwatch. Incidents will look like this:")
    lines.say("What", "Gradients are clipped on 97 % of the last 200 steps.")
    lines.say("Since", f"step {steps(9120)}")
    lines.say("Try", "halve the learning rate (masks symptom)")
    lines.link("Open nanwatch", link("/"))
    return Message(
        title="Test: this channel works",
        marked_title="Test: this channel works",
        plain=lines.plain,
        markdown=lines.markdown,
        level="info",
        data={"event": "test", "incident": None, "more": []},
    )


def clean(text: str, most: int = TEXT_CHARS_MAX) -> str:
    """In one line, without what cannot be seen, and neither a mention nor a link."""
    seen = " ".join(_UNSEEN.sub(" ", text).split())
    if len(seen) > most:
        seen = seen[: most - 1].rstrip() + "…"
    return seen.replace("@", "@" + _BREAK).replace("://", ":" + _BREAK + "//")


def escaped(text: str) -> str:
    """Clean text as Markdown that shows just that."""
    return _MARKUP.sub(r"\\\1", text)


def steps(number: int) -> str:
    """`9 120`, as on the page."""
    return f"{number:,}".replace(",", " ")


class _Lines:
    """The same lines as plain text and as Markdown."""

    def __init__(self) -> None:
        self._plain: list[str] = []
        self._marked: list[str] = []

    def say(self, label: str, text: str) -> None:
        """A line with a label of ours, or none; nothing if there is no text."""
        said = clean(text)
        if said:
            self._plain.append(f"{label}: {said}" if label else said)
            marked = escaped(said)
            self._marked.append(f"**{label}:** {marked}" if label else marked)

    def link(self, words: str, address: str) -> None:
        """A link of ours."""
        self._plain.append(f"{words}: {address}")
        self._marked.append(f"[{words}]({address})")

    @property
    def plain(self) -> str:
        return "\n".join(self._plain)

    @property
    def markdown(self) -> str:
        return "  \n".join(self._marked)  # two spaces: the line ends here


def _incident(lines: _Lines, news: News, link: Link, now: float) -> None:
    incident, run, cause = news.incident, news.run, news.incident.diagnosis
    lines.say("Run", f"{run.name}, project {run.project}")
    lines.say("What", cause.what or cause.title)
    seen = datetime.fromtimestamp(incident.opened_at, UTC)
    since = f"step {steps(incident.onset_step)}; seen at step {steps(incident.fired_step)}"
    since += f", {seen:%H:%M} UTC" + _ago(now - incident.opened_at)
    if incident.reopened:
        since += f"; reopened {incident.reopened} times"
    lines.say("Since", since)
    if _over(incident):
        lasted = duration((incident.resolved_at or now) - incident.opened_at)
        lines.say("Over", f"since step {steps(incident.resolved_step or 0)}, after {lasted}")
    else:
        lines.say("Why", cause.why)
        lines.say("Numbers", "; ".join(_numbers(incident)))
        lines.say("Left", cause.forecast)
        for i, one in enumerate(cause.suggestions[:SUGGESTIONS_MAX]):
            # code of several lines is no code in one
            exact = f" ({one.copy})" if one.copy and "\n" not in one.copy else ""
            text = f"{one.text.rstrip('.')}{exact}, {TREATS[one.treats]}"
            lines.say("Try" if i == 0 else "Or", text)
        if incident.state is IncidentState.ACKNOWLEDGED:
            lines.say("Acknowledged", f"by {incident.acknowledged_by}")
    lines.link("Open", link(f"/a/{incident.id}"))


def _more(lines: _Lines, news: Sequence[News], link: Link) -> None:
    for one in news[:LISTED_MAX]:
        lines.say("Also", f"{_word(one.incident)}: {one.incident.diagnosis.title}")
        lines.link("Open", link(f"/a/{one.incident.id}"))
    if len(news) > LISTED_MAX:
        lines.say("", f"and {len(news) - LISTED_MAX} more")


def _list(news: Sequence[News], link: Link) -> Message:
    """Many runs at once: a line for each, the worst first."""
    runs: dict[str, News] = {}
    for one in sorted(news, key=lambda one: (_over(one.incident), -one.incident.severity)):
        runs.setdefault(one.run.id, one)
    lines = _Lines()
    for one in list(runs.values())[:LISTED_MAX]:
        title = f"{one.incident.diagnosis.title} · {one.run.name} ({one.run.project})"
        lines.say("", f"{_word(one.incident)}: {title}")
        lines.link("Open", link(f"/a/{one.incident.id}"))
    if len(runs) > LISTED_MAX:
        lines.say("", f"and {len(runs) - LISTED_MAX} more runs")
    lines.link("Open the wall", link("/"))
    worst = next(iter(runs.values()))
    firing = [one for one in runs.values() if not _over(one.incident)]
    count = f"{len(firing)} runs need attention" if firing else f"{len(runs)} runs are well again"
    title = f"{_word(worst.incident)}: {count}"
    return Message(
        title=title,
        marked_title=title,
        plain=lines.plain,
        markdown=lines.markdown,
        level=_level(worst.incident),
        data={
            "event": "incidents",
            "incident": _data(worst, link),
            "more": [_data(one, link) for one in news if one is not worst][:LISTED_MAX],
        },
    )


def _title(news: News) -> str:
    said = f"{_word(news.incident)}: {news.incident.diagnosis.title} · {news.run.name}"
    return clean(said, TITLE_CHARS_MAX)


def _word(incident: Incident) -> str:
    return "Over" if _over(incident) else WORDS[incident.severity]


def _over(incident: Incident) -> bool:
    return incident.state is IncidentState.RESOLVED


def _level(incident: Incident) -> str:
    if _over(incident):
        return "success"
    return "failure" if incident.severity is Severity.CRITICAL else "warning"


def _numbers(incident: Incident) -> list[str]:
    seen: dict[str, str] = {}
    for finding in incident.findings:
        for one in finding.evidence:
            limit = f" (limit {one.limit})" if one.limit else ""
            where = " ".join(part for part in (one.scope, one.layer) if part)
            seen.setdefault(f"{one.label} {where}".strip(), f"{one.value}{limit}")
    return [f"{label} {value}" for label, value in list(seen.items())[:NUMBERS_MAX]]


def _ago(seconds: float) -> str:
    return f", {duration(seconds)} ago" if seconds >= 60 else ""


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 10 min`, `2 d 4 h`."""
    s = max(0, round(seconds))
    for size, unit, part, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if s >= size:
            rest = s % size // part
            return f"{s // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{s // 60} min" if s >= 60 else f"{s} s"


def _data(news: News, link: Link) -> dict[str, Any]:
    """An incident for programs: texts as they are, metric values as text."""
    incident, run, cause = news.incident, news.run, news.incident.diagnosis
    evidence = [one for finding in incident.findings for one in finding.evidence]
    return {
        "id": incident.id,
        "url": link(f"/a/{incident.id}"),
        "dedup_key": incident.id,
        "status": incident.state.value,
        "severity": incident.severity.word,
        "syndrome": cause.syndrome,
        "title": cause.title,
        "what": cause.what,
        "why": cause.why,
        "forecast": cause.forecast,
        "rules": sorted({finding.rule for finding in incident.findings}),
        "onset_step": incident.onset_step,
        "fired_step": incident.fired_step,
        "last_step": incident.last_step,
        "resolved_step": incident.resolved_step,
        "opened_at": incident.opened_at,
        "resolved_at": incident.resolved_at,
        "count": incident.count,
        "reopened": incident.reopened,
        "values": [
            {"label": one.label, "value": one.value, "limit": one.limit, "layer": one.layer}
            for one in evidence[:LISTED_MAX]
        ],
        "suggestions": [
            {"text": one.text, "treats": one.treats, "copy": one.copy} for one in cause.suggestions
        ],
        "run": {
            "id": run.id,
            "project": run.project,
            "name": run.name,
            "url": link(f"/r/{run.id}"),
        },
    }
