"""Names the cause of a group of findings and what to try. Injected into the incident book."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanwatch_server.diagnose import remedies as do
from nanwatch_server.diagnose.case import Case
from nanwatch_server.diagnose.divergences import DIVERGENCES
from nanwatch_server.diagnose.forecast import forecast
from nanwatch_server.diagnose.policies import POLICIES
from nanwatch_server.diagnose.precision import PRECISIONS
from nanwatch_server.diagnose.ranks import first_bad_rank
from nanwatch_server.diagnose.standstills import STANDSTILLS
from nanwatch_server.diagnose.syndrome import Syndrome
from nanwatch_server.domain.models import Diagnosis, Finding, Severity


def diagnose(findings: Sequence[Finding], facts: Mapping[str, str]) -> Diagnosis:
    """The likeliest syndrome behind `findings` (oldest first, at least one)."""
    case = Case(findings, facts)
    scores = [syndrome.score(case) for syndrome in SYNDROMES]
    best = max(range(len(SYNDROMES)), key=lambda index: scores[index])
    syndrome = SYNDROMES[best] if scores[best] > 0 else OTHER
    lead = _lead(case, syndrome)
    pro, contra = syndrome.signs(case)
    rank = first_bad_rank(findings, facts)
    weight = max(scores[best], 0.3) + 0.03 * len(pro) - 0.06 * len(contra)
    return Diagnosis(
        syndrome=syndrome.name,
        title=lead.title,
        what=f"{rank} {_what(case, lead)}".strip(),
        why=syndrome.why,
        confidence=round(min(0.97, max(0.1, weight)), 2),
        evidence_for=(*([rank] if rank else []), *_said(case), *pro),
        evidence_against=tuple(contra),
        suggestions=tuple(syndrome.tries(case)),
        forecast=forecast(case),
    )


def _lead(case: Case, syndrome: Syndrome) -> Finding:
    for rule in syndrome.leads:
        if (found := case.of(rule)) is not None:
            # of NaN the first matters, of all else the newest
            return case.first_nonfinite or found if rule == "nonfinite" else found
    live = [f for f in case.findings if not f.cleared] or list(case.findings)
    return max(live, key=lambda found: (found.severity, found.step))


def _newest(case: Case) -> list[Finding]:
    """Per rule and scope the newest finding that speaks of trouble."""
    newest: dict[tuple[str, str, str], Finding] = {}
    for found in case.findings:
        if not found.cleared and found.severity >= Severity.WARNING:
            newest[found.rule, found.scope, found.kind] = found
    return list(newest.values())


def _what(case: Case, lead: Finding) -> str:
    others = [f for f in _newest(case) if f.rule != lead.rule]
    first = lead.message
    if not others:
        return first
    named = "; ".join(f"{f.title} (since step {f.onset_step})" for f in others[:3])
    return f"{first} Also: {named}."


def _said(case: Case) -> list[str]:
    return [
        f"{f.title}{f' ({f.scope})' if f.scope else ''}, since step {f.onset_step}"
        for f in _newest(case)
    ]


SYNDROMES: tuple[Syndrome, ...] = (*DIVERGENCES, *PRECISIONS, *POLICIES, *STANDSTILLS)
OTHER = Syndrome(
    "unnamed",
    lambda case: 0.3,
    (),
    "What was measured does not match a known cause.",
    lambda case: ([], []),
    lambda case: [do.scale_lr(case), do.checkpoint(case)],
)
