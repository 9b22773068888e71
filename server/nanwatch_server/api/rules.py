"""Routes of the rules: their limits, what projects change of them, and the trying of such a change.

A back-test runs in a process of its own (`backtest.bench`); the page asks how far it is.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from nanwatch_server.api.deps import PrincipalDep, problem
from nanwatch_server.api.errors import NotFound, RunDep
from nanwatch_server.api.rule_words import catalogue
from nanwatch_server.auth.gate import requires
from nanwatch_server.backtest.bench import LAST_MOST, Bench, BusyError
from nanwatch_server.detect.limits import LimitsError
from nanwatch_server.detect.registry import packaged_text
from nanwatch_server.domain.models import ProjectRules
from nanwatch_server.pipeline.rulebook import (
    EVERY,
    TEXT_MAX,
    ChangedMeanwhileError,
    Limits,
    Rulebook,
    checked,
)

router = APIRouter()

ProjectQuery = Annotated[str, Query(max_length=300)]
"""Absent or empty: every project."""


class TextBody(BaseModel):
    """A `rules.toml`."""

    model_config = ConfigDict(strict=True, extra="forbid")
    text: str = Field(max_length=TEXT_MAX)


class RulesBody(TextBody):
    """An empty text goes back to the packaged limits. `since`: `updated_at` of the text that was
    changed (0: there was none); a newer one is not overwritten."""

    since: float | None = None


class BacktestBody(TextBody):
    """Limits to be tried on the last runs."""

    last: int = Field(default=10, ge=1, le=LAST_MOST)


async def _rulebook(request: Request) -> Rulebook:
    return request.app.state.rulebook


async def _bench(request: Request) -> Bench:
    return request.app.state.bench


RulebookDep = Annotated[Rulebook, Depends(_rulebook)]
BenchDep = Annotated[Bench, Depends(_bench)]


def _wrong(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LimitsError)
    return problem(422, "invalid", str(error), line=error.line)


def _conflict(_: Request, error: Exception) -> JSONResponse:
    return problem(409, "conflict", str(error))


def install(app: FastAPI) -> None:
    """Let the app answer what a text that does not fit raises, and what comes too late."""
    app.add_exception_handler(LimitsError, _wrong)
    app.add_exception_handler(ChangedMeanwhileError, _conflict)
    app.add_exception_handler(BusyError, _conflict)


@router.get("/api/rules")
@requires("view")
def rules(rulebook: RulebookDep, project: ProjectQuery = EVERY) -> Response:
    """Limits of a project, of every project and the packaged ones; and all rules in words."""
    every = rulebook.text(EVERY)
    below = {} if project == EVERY else _limits(every.text)
    return JSONResponse(
        {
            **_shown(rulebook.text(project)),
            "below": below,
            "packaged": packaged_text(),
            "rules": catalogue(),
        }
    )


@router.get("/api/runs/{run}/rules")
@requires("view")
def of_run(run: RunDep, request: Request) -> dict[str, Any]:
    """Which rules ran on how many records, and why others could not."""
    return {"rules": request.app.state.pipeline.coverage(run.id)}


@router.post("/api/rules/check")
@requires("control")
def check_rules(body: TextBody) -> dict[str, Any]:
    """What a text says; 422 names the line that does not fit. Nothing is kept."""
    return {"limits": _words(checked(body.text))}


@router.put("/api/rules")
@requires("control")
def change_rules(
    body: RulesBody, rulebook: RulebookDep, who: PrincipalDep, project: ProjectQuery = EVERY
) -> dict[str, Any]:
    """422 names the line that does not fit."""
    return _shown(rulebook.change(project, body.text, who, body.since))


@router.post("/api/rules/backtest")
@requires("control")
def try_rules(
    body: BacktestBody, bench: BenchDep, who: PrincipalDep, project: ProjectQuery = EVERY
) -> Response:
    """202: it has begun; 409: another one runs. What the runs have is not changed by it."""
    checked(body.text)
    return JSONResponse(bench.start(project, body.text, body.last, who.actor), 202)


@router.get("/api/rules/backtest")
@requires("view")
def backtest(bench: BenchDep) -> Response:
    """The back-test that runs, or the last one; null before the first."""
    return JSONResponse({"backtest": bench.latest()})


@router.delete("/api/rules/backtest/{job}")
@requires("control")
def cancel_backtest(job: str, bench: BenchDep) -> Response:
    """It ends, and what it has found so far is kept."""
    if (found := bench.cancel(job)) is None:
        raise NotFound(f"there is no back-test {job[:64]!r}")
    return JSONResponse(found)


def _shown(rules: ProjectRules) -> dict[str, Any]:
    return {
        "project": rules.project,
        "text": rules.text,
        "updated_at": rules.updated_at or None,
        "updated_by": rules.updated_by,
        "limits": _limits(rules.text),
    }


def _limits(text: str) -> dict[str, dict[str, str]]:
    """What a stored text says; nothing if it was written for another version."""
    try:
        return _words(checked(text))
    except LimitsError:
        return {}


def _words(limits: Limits) -> dict[str, dict[str, str]]:
    """As TOML writes the values."""
    return {
        rule: {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in values.items()
        }
        for rule, values in limits.items()
    }
