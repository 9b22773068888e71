"""However several processes are started, they report into one run; strangers do not mix."""

from __future__ import annotations

import json

from distributed.conftest import eventually


def ids(folder) -> dict[int, set[str]]:
    """Rank → run ids that processes of this rank said they had."""
    found: dict[int, set[str]] = {}
    for path in folder.glob("*.json"):
        told = json.loads(path.read_text())
        found.setdefault(told["rank"], set()).add(told["id"])
    return found


def test_two_processes_are_one_run(server, launch, tmp_path):
    training = launch(server, "ddp", "--steps", "6", "--ids", str(tmp_path), ranks=2)
    printed = training.ended()

    [run] = server.runs_of(training)
    assert ids(tmp_path) == {0: {run["id"]}, 1: {run["id"]}}
    assert printed.count(f"/r/{run['id']}") == 1  # rank 0 alone prints the link
    detail = server.detail(run["id"])
    assert detail["status"] == "ended"
    assert detail["facts"]["world_size"] == "2"
    assert [(r["rank"], r["state"], r["last_step"]) for r in detail["ranks"]] == [
        (0, "ended", 6),
        (1, "ended", 6),
    ]
    steps = [step for step, _ in server.points(run["id"], "loss", rank=1)]
    assert steps == [step for step, _ in server.points(run["id"], "loss")] == list(range(1, 7))


def test_two_trainings_at_once_do_not_mix(server, launch, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    both = [
        launch(server, "ddp", "--steps", "4", "--ids", str(folder), ranks=2) for folder in folders
    ]
    for training in both:
        training.ended()

    found = [ids(folder) for folder in folders]
    assert all(sorted(one) == [0, 1] and one[0] == one[1] for one in found)
    assert found[0] != found[1]
    runs = [run["id"] for training in both for run in server.runs_of(training)]
    assert sorted(runs) == sorted(one for each in found for one in each[0])


def test_without_a_server_the_spools_of_all_ranks_name_one_run(launch, tmp_path):
    from nanwatch.link.box import boxes

    data = tmp_path / "alone"
    launch(
        None,
        *("ddp", "--steps", "4"),
        ranks=2,
        NANWATCH_DATA_DIR=str(data),
        NANWATCH_MODE="offline",
    ).ended()

    kept = [box.hello() for box in boxes(data)]
    assert sorted((hello.rank, hello.world) for hello in kept if hello) == [(0, 2), (1, 2)]
    assert len({hello.run.id for hello in kept if hello}) == 1


def test_a_rank_that_goes_is_seen_to_be_gone(server, launch, tmp_path):
    go = tmp_path / "go"
    training = launch(server, "ddp", "--steps", "4", "--linger", str(go), ranks=2)
    run = eventually(lambda: server.runs_of(training), 60, "run")[0]["id"]

    def states() -> dict[int, str]:
        return {one["rank"]: one["state"] for one in server.detail(run)["ranks"]}

    eventually(lambda: states() == {0: "connected", 1: "connected"}, 60, "both ranks")
    go.touch()
    training.ended()
    eventually(lambda: states() == {0: "ended", 1: "ended"}, 20, "goodbye of both ranks")


def test_a_rank_that_dies_is_started_again_into_the_same_run(server, launch, tmp_path):
    """torchrun starts all ranks anew: a new life of the same run, and nothing twice."""
    training = launch(
        server,
        *("ddp", "--steps", "8", "--die-rank", "1", "--die-step", "3", "--ids", str(tmp_path)),
        ranks=2,
        by="torchrun --max-restarts=1",
    )
    training.ended()

    [run] = server.runs_of(training)
    assert ids(tmp_path) == {0: {run["id"]}, 1: {run["id"]}}
    detail = server.detail(run["id"])
    assert (detail["status"], detail["last_step"]) == ("ended", 8)
    for rank in (0, 1):
        points = server.points(run["id"], "loss", rank=rank)
        steps = [step for step, _ in points]
        # The first life got to step 3, at most one further where the other rank had not died yet.
        first = steps.count(1) + steps.count(2) + steps.count(3) - 3
        assert first == 3, steps
        assert [steps.count(step) for step in range(5, 9)] == [1, 1, 1, 1]
        by_step: dict[int, set[float]] = {}
        for step, value in points:
            by_step.setdefault(step, set()).add(value)
        assert all(len(values) == 1 for values in by_step.values())  # both lives saw the same
