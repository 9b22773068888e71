"""Which server a command talks to, and one HTTP request to it. Used by sync, send and doctor."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from nanwatch import local_server
from nanwatch.cli.output import fail, program
from nanwatch.config import check_address, data_directory

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server and a token with role `ingest`."""

    url: str
    token: str


def target_of(server: str | None, token: str | None) -> Target:
    """From the options, the environment, or this user's own server. Leaves with words if none."""
    url = server or os.environ.get("NANWATCH_URL") or ""
    given = token or os.environ.get("NANWATCH_TOKEN") or ""
    if url:
        try:
            check_address(url)
        except ValueError as error:
            fail(str(error))
        return Target(url.rstrip("/"), given)
    found = local_server.alive(data_directory())
    if found is None:
        fail(
            f"no server is known: start one with `{program()} serve --detach`, or set NANWATCH_URL "
            "and NANWATCH_TOKEN"
        )
    return Target(found.url, given or found.token)


class Answer(RuntimeError):
    """The server said no, in its own words."""

    def __init__(self, status: int, message: str, retry_s: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.retry_s = status, retry_s


def post_patiently(
    target: Target, path: str, body: bytes, content_type: str, give_up_s: float
) -> dict[str, Any]:
    """The same, again and again while the server is busy or away, for so many seconds.

    Only for what is stored once however often it is sent.
    """
    until, wait = time.monotonic() + give_up_s, 0.5
    while True:
        try:
            return post(target, path, body, content_type)
        except Answer as error:
            if error.status not in (429, 503) or time.monotonic() > until:
                raise
            wait = max(wait, error.retry_s)
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(wait)
        wait = min(wait * 2, 5.0)


def post(
    target: Target, path: str, body: bytes, content_type: str, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """JSON answer of a POST. Raises `Answer` (refused) or OSError (no server of ours)."""
    request = urllib.request.Request(
        target.url + path,
        method="POST",
        data=body,
        headers={"Authorization": f"Bearer {target.token}", "Content-Type": content_type},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            told = json.loads(answer.read())
            if not isinstance(told, dict):
                raise ValueError("no object")
            return told
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"no nanwatch server: {type(error).__name__}: {str(error).strip()}") from None
    except urllib.error.HTTPError as error:
        raise _answer(error) from None


@contextmanager
def ask(target: Target, path: str, timeout_s: float = TIMEOUT_S) -> Iterator[IO[bytes]]:
    """The body of a GET, to be read in pieces. Raises `Answer` (refused) or OSError."""
    headers = {"Authorization": f"Bearer {target.token}"}
    request = urllib.request.Request(target.url + path, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            yield answer
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {str(error).strip()}") from None
    except urllib.error.HTTPError as error:
        raise _answer(error) from None


def _answer(error: urllib.error.HTTPError) -> Answer:
    text = error.read(10_000).decode(errors="replace")
    try:
        text = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        pass
    retry = error.headers.get("Retry-After", "0")
    return Answer(error.code, text, float(retry) if retry.isdigit() else 0.0)
