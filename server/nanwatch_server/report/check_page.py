"""`nanwatch check --html`: incidents of judged runs with charts, evidence and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Protocol

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from nanwatch.contract.kinds import KINDS
from nanwatch_server.backtest.traces import Traces
from nanwatch_server.backtest.trial import Verdict
from nanwatch_server.domain.models import Finding, Incident, Series

SERIES_SHOWN = 4
INK = "#8a8f98"
"""Grey that reads on light and on dark."""
GRID = "rgba(128,128,128,.25)"
LINE = "#3b82f6"
COLORS = {"critical": "#dc2626", "warning": "#d97706", "notice": "#2563eb"}
OVERVIEW = ("loss", "grad_norm", "q_mean", "reward")
FINDINGS_SHOWN = 500

_STYLE = """
:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--card:#151b23}
body{background:#0d1117}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:1080px;margin:0 auto;
padding:16px}
h1{font-size:22px}h2{font-size:18px;border-bottom:1px solid var(--line);padding-bottom:4px;
overflow-wrap:anywhere}
h3{font-size:16px;margin:0 0 4px}
section{background:var(--card);border:1px solid var(--line);border-left-width:4px;
border-radius:6px;padding:12px 16px;margin:16px 0}
.soft{color:var(--soft)}.tag{font-weight:600;text-transform:uppercase;font-size:12px}
pre{overflow-x:auto;background:#8882;padding:6px 8px;border-radius:4px;margin:4px 0}
li{margin:4px 0}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px}td,th{text-align:left;padding:3px 10px 3px 0;
border-bottom:1px solid var(--line);vertical-align:top}
"""


class Judged(Protocol):
    """One run of the report."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def traces(self) -> Traces: ...


def page(runs: Sequence[Judged]) -> str:
    """The whole file, about 5 MB: most of it is Plotly."""
    one = len(runs) == 1
    body = "".join(_run(run, number, named=not one) for number, run in enumerate(runs))
    title = f"nanwatch check: {runs[0].name}" if one else "nanwatch check"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>{escape(title)}</h1>{body}"
        "</body></html>"
    )


def _run(run: Judged, number: int, named: bool) -> str:
    verdict, traces = run.verdict, run.traces
    head = f"<h2>{escape(run.name)}</h2>" if named else ""
    parts = [f"{head}<p class=soft>{escape(run.about)}</p>"]
    for count, incident in enumerate(verdict.incidents):
        parts.append(_incident(incident, traces, f"c{number}-{count}"))
    if not verdict.points:
        parts.append("<p><b>There was no number to judge.</b></p>")
    elif not verdict.incidents:
        parts.append("<p><b>No trouble found.</b></p>")
        shown = [one for one in traces.series() if one.kind in OVERVIEW and not one.layer]
        parts.append(_charts(shown[:SERIES_SHOWN], traces, None, f"c{number}"))
    parts.append(_findings(verdict.findings))
    parts.append(_coverage(verdict.coverage))
    return "".join(parts)


def _incident(incident: Incident, traces: Traces, place: str) -> str:
    cause, word = incident.diagnosis, incident.severity.word
    over = "not over" if incident.resolved_step is None else f"over at {incident.resolved_step}"
    shown = traces.shown(incident, SERIES_SHOWN)
    return (
        f'<section style="border-left-color:{COLORS[word]}">'
        f'<h3><span class=tag style="color:{COLORS[word]}">{word}</span> {escape(cause.title)}</h3>'
        f"<p class=soft>{escape(cause.syndrome)}, {100 * cause.confidence:.0f} % sure · since step "
        f"{incident.onset_step} · told at {incident.fired_step} · {over}</p>"
        f"<p>{escape(cause.what)}</p><p><i>{escape(cause.why)}</i></p>"
        + _charts(shown, traces, incident, place)
        + _texts("Evidence for", cause.evidence_for)
        + _texts("Evidence against", cause.evidence_against)
        + (f"<p><b>Forecast:</b> {escape(cause.forecast)}</p>" if cause.forecast else "")
        + _suggestions(incident)
        + "</section>"
    )


def _texts(title: str, texts: Sequence[str]) -> str:
    if not texts:
        return ""
    return f"<b>{title}</b><ul>{''.join(f'<li>{escape(one)}</li>' for one in texts)}</ul>"


def _suggestions(incident: Incident) -> str:
    rows = []
    for one in incident.diagnosis.suggestions:
        kind = "treats the cause" if one.treats == "cause" else "masks the symptom"
        copy = f"<pre>{escape(one.copy)}</pre>" if one.copy else ""
        rows.append(f"<li>{escape(one.text)} <span class=soft>({kind})</span>{copy}</li>")
    return f"<b>To try, best first</b><ol>{''.join(rows)}</ol>" if rows else ""


def _charts(shown: Sequence[Series], traces: Traces, incident: Incident | None, place: str) -> str:
    return "".join(
        _figure(series, traces, incident).to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"{place}-{number}",
            config={"displaylogo": False, "responsive": True},
        )
        for number, series in enumerate(shown)
    )


def _figure(series: Series, traces: Traces, incident: Incident | None) -> go.Figure:
    steps, values = traces.points(series)
    finite = np.isfinite(values)
    figure = go.Figure(
        go.Scatter(
            x=steps,
            y=np.where(finite, values, np.nan),
            mode="lines" if finite.sum() > 1 else "markers",
            line={"width": 1.3, "color": LINE},
            hovertemplate="step %{x}<br>%{y}<extra></extra>",
        )
    )
    bad = steps[~finite]
    if len(bad):
        figure.add_scatter(
            x=bad,
            y=np.ones(len(bad)),
            yaxis="y2",
            mode="markers",
            marker={"symbol": "x", "size": 7, "color": COLORS["critical"]},
            text=[str(value) for value in values[~finite]],
            hovertemplate="step %{x}: %{text}<extra></extra>",
        )
    if incident is not None:
        _mark(figure, incident)
    known = KINDS.get(series.kind)
    log = bool(known and known.log_axis and finite.any() and (values[finite] > 0).all())
    figure.update_layout(
        title={"text": escape(_name(series)), "font": {"size": 14}},
        height=300,
        margin={"l": 60, "r": 16, "t": 40, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK},
        showlegend=False,
        xaxis={
            "title": "step",
            "range": [int(steps[0]), max(int(steps[-1]), int(steps[0]) + 1)],
            "gridcolor": GRID,
            "zerolinecolor": GRID,
        },
        yaxis={"type": "log" if log else "linear", "gridcolor": GRID, "zerolinecolor": GRID},
        yaxis2={"overlaying": "y", "range": [0, 1.02], "visible": False, "fixedrange": True},
    )
    return figure


def _mark(figure: go.Figure, incident: Incident) -> None:
    color = COLORS[incident.severity.word]
    figure.add_vline(x=incident.onset_step, line={"dash": "dot", "color": color, "width": 1.5},
                     annotation={"text": f"onset {incident.onset_step}", "font": {"color": color},
                                 "yanchor": "bottom"})  # fmt: skip
    figure.add_vline(x=incident.fired_step, line={"color": color, "width": 1.5})
    if incident.resolved_step is not None:
        figure.add_vrect(x0=incident.onset_step, x1=incident.resolved_step, fillcolor=color,
                         opacity=0.08, line_width=0)  # fmt: skip


def _name(series: Series) -> str:
    name = f"{series.scope}.{series.kind}" if series.scope else series.kind
    return f"{name} [{series.layer}]" if series.layer else name


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    rows = "".join(
        f'<tr><td>{one.step}</td><td style="color:{COLORS[one.severity.word]}">'
        f"{one.severity.word}</td><td>{escape(one.rule)}</td><td>{escape(one.scope)}</td>"
        f"<td>{escape(one.message)}</td></tr>"
        for one in findings[:FINDINGS_SHOWN]
    )
    more = len(findings) - FINDINGS_SHOWN
    rest = f"<p class=soft>… and {more} more</p>" if more > 0 else ""
    head = "<tr><th>step<th>severity<th>rule<th>scope<th>what</tr>"
    return (
        f"<details><summary>{len(findings)} findings</summary><div class=scroll>"
        f"<table>{head}{rows}</table></div>{rest}</details>"
    )


def _coverage(coverage: Sequence[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one['rule'])}</td><td>{escape(one['scope'])}</td>"
        f"<td>{'checked' if one['ran'] else escape('no: ' + one['why'])}</td></tr>"
        for one in coverage
    )
    head = "<tr><th>rule<th>scope<th>checked</tr>"
    return (
        "<details><summary>What was checked, and what could not be</summary><div class=scroll>"
        f"<table>{head}{rows}</table></div></details>"
    )
