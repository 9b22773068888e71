"""What `nanwatch check` says to a person: incidents with a chart, what could not be checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from nanwatch.cli.terminal_chart import chart

if TYPE_CHECKING:
    from nanwatch_server.backtest.traces import Traces
    from nanwatch_server.backtest.trial import Verdict

STYLES = {"critical": "bold red", "warning": "bold yellow", "notice": "bold blue"}
NOTICES_SHOWN = 10
CHART_WIDTH_MAX = 100


def show_verdict(out: Console, title: str, about: str, verdict: Verdict, traces: Traces) -> None:
    """The report of one run."""
    out.rule(Text(title, style="bold"), align="left", style="dim")
    out.print(Text(about, style="dim"))
    for incident in verdict.incidents:
        out.print()
        _incident(out, incident, traces)
    _notices(out, verdict)
    if not verdict.points:
        out.print(Text("There was no number to judge.", style="bold yellow"))
    elif not verdict.incidents:
        out.print(Text("No trouble found.", style="bold green"))
    _coverage(out, verdict.coverage)
    for failure in verdict.failures:
        out.print(Text(f"An error of nanwatch's own, please report it: {failure}", style="red"))
    out.print()


def _incident(out: Console, incident: Any, traces: Traces) -> None:
    cause, word = incident.diagnosis, incident.severity.word
    over = "not over" if incident.resolved_step is None else f"over at {incident.resolved_step}"
    out.print(
        Text.assemble(
            (f" {word.upper()} ", f"reverse {STYLES[word]}"),
            (f" {cause.title}", "bold"),
            (f"  [{cause.syndrome}, {100 * cause.confidence:.0f} % sure]", "dim"),
        )
    )
    count = f", {incident.count} findings" if incident.count > 1 else ""
    when = f"since step {incident.onset_step}, told at {incident.fired_step}, {over}{count}"
    _say(out, Text(when))
    if cause.what:
        _say(out, Text(cause.what))
    if cause.why:
        _say(out, Text(cause.why, style="italic"))
    _charts(out, incident, traces)
    for text in cause.evidence_for:
        _say(out, Text.assemble(("+ ", "green"), text))
    for text in cause.evidence_against:
        _say(out, Text.assemble(("- ", "red"), text))
    if cause.forecast:
        _say(out, Text.assemble(("Forecast: ", "bold"), cause.forecast))
    if cause.suggestions:
        _say(out, Text("To try, best first:", style="bold"))
    for number, one in enumerate(cause.suggestions, 1):
        kind = "treats the cause" if one.treats == "cause" else "masks the symptom"
        _say(out, Text.assemble(f"{number}. {one.text} ", (f"({kind})", "dim")))
        for line in one.copy.splitlines():
            _say(out, Text(line, style="cyan"), 6)


def _charts(out: Console, incident: Any, traces: Traces) -> None:
    for series in traces.shown(incident, most=1):
        steps, values = traces.points(series)
        name = f"{series.scope}.{series.kind}" if series.scope else series.kind
        width = min(out.width - 4, CHART_WIDTH_MAX)
        lines = chart(
            steps.tolist(), values.tolist(), onset=incident.onset_step, width=max(width, 24)
        )
        if lines:
            layer = f" [{series.layer}]" if series.layer else ""
            _say(out, Text(f"{name}{layer}", style="dim"))
            _say(out, Text("\n".join(lines), no_wrap=True))


def _notices(out: Console, verdict: Verdict) -> None:
    notices = [one for one in verdict.findings if one.severity.word == "notice"]
    if notices:
        out.print()
        out.print(Text("Worth knowing:", style=STYLES["notice"]))
    for one in notices[:NOTICES_SHOWN]:
        _say(out, Text(f"step {one.step}  {one.title}"))
    if len(notices) > NOTICES_SHOWN:
        _say(out, Text(f"… and {len(notices) - NOTICES_SHOWN} more"))


_MEASURED = re.compile(
    r"_layer\b|update_applied|grad_kept|domain_margin|logit_max|adam_rms|repaired|update_norm"
)
"""Kinds that hardly any log holds: that they are missing is no news about one."""


def _coverage(out: Console, coverage: Any) -> None:
    ran = list(dict.fromkeys(one["rule"] for one in coverage if one["ran"]))
    out.print()
    out.print(Text.assemble(("Checked: ", "bold"), ", ".join(ran) or "nothing"))
    # Per scope it is in the JSON and the HTML; a person asks what nobody looked at.
    by_records = sorted(coverage, key=lambda one: one["records"])
    missing = {one["rule"]: one["why"] for one in by_records if one["rule"] not in ran}
    reasons: dict[str, list[str]] = {}
    measured: list[str] = []
    for rule, why in missing.items():
        if _MEASURED.search(why):
            measured.append(rule)
        else:
            reasons.setdefault(why, []).append(rule)
    if missing:
        out.print(Text("Could not be checked: ", style="bold"))
    for why, rules in sorted(reasons.items(), key=lambda item: -len(item[1])):
        _say(out, Text(f"{why}: {', '.join(rules)}", style="dim"))
    if measured:
        what = "what only nanwatch in the training measures (layers, updates, logits)"
        _say(out, Text(f"{what}: {len(measured)} rules", style="dim"))


def _say(out: Console, text: Text, left: int = 2) -> None:
    out.print(Padding(text, (0, 0, 0, left)))
