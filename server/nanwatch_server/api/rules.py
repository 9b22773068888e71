"""Routes of the rules: their limits, and what a project changes of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from nanwatch_server.api.deps import PrincipalDep, problem
from nanwatch_server.api.errors import RunDep
from nanwatch_server.auth.gate import requires
from nanwatch_server.detect.limits import LimitsError
from nanwatch_server.detect.registry import packaged_text
from nanwatch_server.domain.models import ProjectRules
from nanwatch_server.pipeline.rulebook import TEXT_MAX, Rulebook

router = APIRouter()


class RulesBody(BaseModel):
    """A `rules.toml`; an empty text goes back to the packaged limits."""

    model_config = ConfigDict(strict=True, extra="forbid")
    text: str = Field(max_length=TEXT_MAX)


def _rulebook(request: Request) -> Rulebook:
    return request.app.state.rulebook


RulebookDep = Annotated[Rulebook, Depends(_rulebook)]


def _wrong(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LimitsError)
    return problem(422, "invalid", str(error), line=error.line)


def install(app: FastAPI) -> None:
    """Let the app answer what a text that does not fit raises."""
    app.add_exception_handler(LimitsError, _wrong)


@router.get("/api/rules")
@requires("view")
def rules(rulebook: RulebookDep, project: str = "") -> dict[str, Any]:
    """The limits of a project and the packaged ones, both as TOML with their comments."""
    return {**_shown(rulebook.text(project)), "packaged": packaged_text()}


@router.get("/api/runs/{run}/rules")
@requires("view")
def of_run(run: RunDep, request: Request) -> dict[str, Any]:
    """Which rules ran on how many records, and why others could not."""
    return {"rules": request.app.state.pipeline.coverage(run.id)}


@router.put("/api/rules")
@requires("control")
def change_rules(
    body: RulesBody, rulebook: RulebookDep, who: PrincipalDep, project: str = ""
) -> dict[str, Any]:
    """422 names the line that does not fit."""
    return _shown(rulebook.change(project, body.text, who))


def _shown(rules: ProjectRules) -> dict[str, Any]:
    return {
        "project": rules.project,
        "text": rules.text,
        "updated_at": rules.updated_at or None,
        "updated_by": rules.updated_by,
    }
