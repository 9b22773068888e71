"""From exceptions to the protocol's error answer, in one place; and the lookups that raise them."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from nanwatch_server.api.deps import StoreDep, problem
from nanwatch_server.domain.models import Run
from nanwatch_server.store.base import StoreUnavailableError

_log = structlog.get_logger()

_CODES = {401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "bad_method"}


class NotFound(Exception):
    """There is no such thing; the text says which."""


def the_run(run: str, store: StoreDep) -> Run:
    """The run named in the path."""
    found = store.run(run)
    if found is None:
        raise NotFound(f"there is no run {run[:64]!r}")
    return found


RunDep = Annotated[Run, Depends(the_run)]


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    said = [
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5]
    ]
    return problem(422, "invalid", "; ".join(said)[:1000])


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "error")
    return problem(error.status_code, code, str(error.detail))


def _missing(_: Request, error: Exception) -> JSONResponse:
    return problem(404, "not_found", str(error))


def _unavailable(_: Request, error: Exception) -> JSONResponse:
    return problem(503, "unavailable", f"{error}: try again when there is room on the disk")


def _surrogate(_: Request, error: Exception) -> JSONResponse:
    return problem(422, "invalid", "expected text of whole characters, got half a surrogate pair")


def _crash(request: Request, error: Exception) -> JSONResponse:
    _log.error("a request failed", path=request.url.path, exc_info=error)
    return problem(500, "internal", "an error inside the server; its log has the details")


def install(app: FastAPI) -> None:
    """Let the app answer every exception in the protocol's form."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(NotFound, _missing)
    app.add_exception_handler(StoreUnavailableError, _unavailable)
    app.add_exception_handler(UnicodeEncodeError, _surrogate)
    app.add_exception_handler(Exception, _crash)
