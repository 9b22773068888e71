"""One rank's batch is poisoned: the page names that rank, although every rank's gradients are."""

from __future__ import annotations

import pytest

from distributed.conftest import eventually


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_first_bad_rank_is_named(server, launch, kind):
    poisoned = ("--steps", "9", "--nan-rank", "2", "--nan-step", "7")
    training = launch(server, kind, *poisoned, ranks=4)
    training.ended()

    [run] = server.runs_of(training)

    def incident() -> dict | None:
        found = server.client.get(f"/api/runs/{run['id']}/incidents")["incidents"]
        named = [one for one in found if "Rank 2 of 4 was first" in one["what"]]
        return named[0] if named else None

    found = eventually(incident, 30, "incident that names rank 2")
    assert found["severity"] == "critical"
    assert found["onset_step"] == 7
    assert found["evidence_for"][0].startswith("Rank 2 of 4 was first: its loss was not finite")
    assert any(f["rank"] == 2 and f["kind"] == "loss" for f in found["findings"])
    assert len(server.client.get(f"/api/runs/{run['id']}/incidents")["incidents"]) == 1

    ranks = server.detail(run["id"])["ranks"]
    assert [one["first_bad"] for one in ranks] == [False, False, True, False]
    assert (ranks[2]["bad_step"], ranks[2]["bad_where"]) == (7, "loss")
    # The others have it from the shared gradients, or, where those were not due, from the weights:
    # after the step if they were, else by the next loss.
    others = {(one["bad_step"], one["bad_where"]) for one in ranks if one["rank"] != 2}
    assert others <= {(7, "gradient"), (7, "parameter"), (8, "loss")}
