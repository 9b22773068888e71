"""The audit over HTTP: pages, runs, and a chain that a reader can check alone."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from nanwatch_server.api import audit
from nanwatch_server.auth.tokens import new_token
from nanwatch_server.control.audit import verify_chain


@pytest.fixture
def server(store, server_kit):
    app = FastAPI(openapi_url=None)
    app.include_router(audit.router)
    with server_kit.running(server_kit.guarded(app, store)) as served:
        yield served


def test_pages_newest_first_and_the_chain_holds(server, store):
    told = {"Authorization": "Bearer " + new_token(store, "view")}
    for n in range(25):
        with store.write() as uow:
            detail = {"n": n, "lr": float("nan")}
            run = f"run{n % 2}"
            uow.audit(
                at=n / 3, actor="a", role="view", via="token", action="x", run_id=run, detail=detail
            )
    rows, after, pages = [], None, 0
    while pages == 0 or after is not None:
        query = f"?limit=10&after={after}" if after else "?limit=10"
        page = server.ask("GET", f"/api/audit{query}", **told).json
        rows += page["rows"]
        after, pages = page["next"], pages + 1
    assert [row["id"] for row in rows] == list(range(26, 0, -1))
    assert verify_chain(rows[::-1]) is None
    assert set(rows[0]) == {
        "id", "at", "actor", "role", "via", "action", "run_id", "target", "detail", "hash",
    }  # fmt: skip
    assert rows[0]["detail"] == {"n": 24, "lr": "NaN"}
    of_run = server.ask("GET", "/api/audit?run=run1", **told).json
    assert [row["detail"]["n"] for row in of_run["rows"]] == list(range(23, 0, -2))
    assert of_run["next"] is None
    for query in ("limit=0", "limit=1001", "limit=x", "after=-1", "after=99999999999999999999"):
        assert server.ask("GET", f"/api/audit?{query}", **told).status == 422, query
