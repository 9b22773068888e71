"""What the exception that ended a training tells: NaN that was caught before it was measured, as
autograd's anomaly mode and argument checks of distributions do. Pure; asked by the engine. The
mark is a log's event, or was written behind the last points of a live run (`ingest.ending`)."""

from __future__ import annotations

import re

from nanwatch_server.domain.labels import EXCEPTION_NOTE
from nanwatch_server.domain.models import Evidence, Finding, Severity

RULE = "nonfinite"
TITLE_MAX = 80
_NAN = re.compile(r"\bnans?\b|\bnon-?finite\b|\bnot finite\b|\binf\b", re.IGNORECASE)
_INVALID = re.compile(r"found invalid values:.*\b(nan|inf)\b", re.DOTALL)
"""Arguments of a distribution: the tensor follows on the next lines."""
_NAMES = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*")
"""What is quoted, and paths: names, whatever they say."""
_OTHERS = re.compile(r"^(\w+\.)*(KeyError|OSError|\w*FileNotFound\w*|PermissionError|ImportError|"
                     r"ModuleNotFoundError|NameError|AttributeError|OverflowError): ")  # fmt: skip
_CLASS = re.compile(r"^(\w+\.)*\w+(Error|Exception): ")


def is_exception(what: str, text: str) -> bool:
    """True for a mark that tells of an exception."""
    return what == "note" and text.startswith(EXCEPTION_NOTE)


def finding(run_id: str, step: int, time: float, text: str) -> Finding | None:
    """The finding of an exception that speaks of values that are not finite; else None."""
    said = text.removeprefix(EXCEPTION_NOTE).strip()
    first = said.split("\n", 1)[0]
    plain = _NAMES.sub(" ", first)
    if _OTHERS.match(said) or not (_NAN.search(plain) or _INVALID.search(said)):
        return None
    return Finding(
        run_id=run_id,
        rule=RULE,
        severity=Severity.CRITICAL,
        step=step,
        onset_step=step,
        time=time,
        title=_cut(f"Training died of NaN: {_CLASS.sub('', first)}"),
        message=f"The training ended at step {step} with {said[:400]}",
        evidence=(Evidence(label="Exception", value=first[:200], limit="none", kind="grad_norm"),),
        kind="grad_norm",
    )


def _cut(title: str) -> str:
    """The title, at most 80 characters, ended at a word."""
    if len(title) > TITLE_MAX:
        title = title[: TITLE_MAX - 1].rsplit(" ", 1)[0].rstrip(" ,.'(") + "…"
    return title.rstrip(" ,.'")


def over(run_id: str, step: int, time: float) -> Finding:
    """The all-clear: the training that died at `step` goes on."""
    return Finding(
        run_id=run_id,
        rule=RULE,
        severity=Severity.CRITICAL,
        step=step,
        onset_step=step,
        time=time,
        title="The training goes on",
        message=f"The training that died of NaN at step {step} goes on.",
        kind="grad_norm",
        cleared=True,
    )
