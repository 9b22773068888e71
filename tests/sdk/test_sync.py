"""What was kept on disk reaches the server once: by whoever, however often, damaged or not."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import nanwatch
from nanwatch.cli import sync as command
from nanwatch.link import lock, spool, upload
from nanwatch.link.box import Box, boxes
from nanwatch.link.lock import Lock
from nanwatch.link.upload import Sent, Upload
from nanwatch.run import Run
from sdk.served import Served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("server"))
    yield found
    found.stop()


def eventually(look: Callable[[], Any], timeout_s: float = 15) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def offline(count: int = 200, *, finish: bool = True, per_frame: int = 10) -> Run:
    """A run that worked without a server and logged the numbers from 0."""
    run = nanwatch.init("sync", mode="offline")
    assert isinstance(run, Run)
    for number in range(count):
        run.log(v=float(number))
        if number % per_frame == per_frame - 1:
            time.sleep(0.06)
    if finish:
        run.finish("done", 3)
    return run


def box_of(run: Run, tmp_path: Path) -> Box:
    (found,) = [box for box in boxes(tmp_path / "data") if run.id in box.directory.name]
    return found


def send(box: Box, server: Served, **options: Any) -> Sent:
    return Upload(box, server.url, server.token, **options).run()


def numbers(count: int) -> list[float]:
    return [float(number) for number in range(count)]


def test_the_command_sends_everything_once_and_cleans_up(
    server: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = offline()
    command.sync(dry_run=True)
    assert "done" in capsys.readouterr().err and box_of(run, tmp_path).bytes()
    command.sync(run.options.name, server=server.url, token=server.token, keep=True)
    assert eventually(lambda: server.points(run.id, "v") == numbers(200))
    command.sync(str(tmp_path / "data"), server=server.url, token=server.token)
    command.sync(server=server.url, token=server.token)
    assert server.points(run.id, "v") == numbers(200)
    ended = eventually(lambda: (found := server.run(run.id))["status"] == "ended" and found)
    assert (ended["end_reason"], ended["exit_code"], ended["controls"]) == ("done", 3, [])
    assert not boxes(tmp_path / "data")
    assert "nothing waits" in capsys.readouterr().err


def test_words_for_what_cannot_be_sent(
    server: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = offline(20)
    with pytest.raises(SystemExit):
        command.sync("no-such-run", server=server.url, token=server.token)
    assert "expected a directory" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.sync(server=server.url, token="wrong")
    assert "refused the connection: HTTP 401" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.sync()  # no server is known
    assert "serve --detach" in capsys.readouterr().err
    (box_of(run, tmp_path).directory / "hello.msgpack").write_bytes(b"damaged")
    command.sync(server=server.url, token=server.token)  # the segments say who they are
    assert eventually(lambda: server.points(run.id, "v") == numbers(20))


def test_two_uploads_at_once_and_one_that_is_cut_store_each_point_once(
    server: Served, tmp_path: Path
) -> None:
    run = offline(300)
    box = box_of(run, tmp_path)
    left = [4]

    def cut() -> bool:
        left[0] -= 1
        return left[0] < 0

    with pytest.raises(upload.Stopped):
        send(box, server, stopped=cut)
    failures: list[BaseException] = []

    def one() -> None:
        try:
            send(Box(box.directory), server, keep=True)
        except Exception as error:  # the other one fenced it for good: it has all
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) < 2, failures
    assert eventually(lambda: server.points(run.id, "v") == numbers(300))


def test_a_killed_process_loses_at_most_a_second(server: Served, tmp_path: Path) -> None:
    code = """
    import os, signal, time, nanwatch
    run = nanwatch.init("killed", name="victim")
    print(run.id, flush=True)
    for number in range(10**6):
        run.log(v=float(number))
        print(number, flush=True)
        time.sleep(0.005)
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    env = {**clean, "NANWATCH_DATA_DIR": str(tmp_path / "data"), "NANWATCH_MODE": "offline"}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        logged = [int(process.stdout.readline()) for _ in range(400)]
        (box,) = boxes(tmp_path / "data")
        assert box.is_alive() and box.told("mode") == "offline"
        process.kill()
        process.wait()
        assert not box.is_alive()
    command.sync(server=server.url, token=server.token)
    stored = eventually(lambda: server.points(run, "v"))
    assert stored == numbers(len(stored)) and len(stored) >= logged[-1] - 200
    assert server.run(run)["end_reason"] == "", "nobody knows how it ended"
    assert not boxes(tmp_path / "data")


def test_a_live_offline_run_is_followed_to_its_end(server: Served, tmp_path: Path) -> None:
    run = offline(50, finish=False)
    box = box_of(run, tmp_path)
    eventually(box.bytes)
    assert not send(box, server).complete and box.bytes(), "it still writes there"
    done = threading.Thread(target=lambda: Upload(box, server.url, server.token).run(follow_s=0.1))
    done.start()
    for number in range(50, 100):
        run.log(v=float(number))
    assert eventually(lambda: server.points(run.id, "v") == numbers(100))
    run.finish()
    done.join(20)
    assert not done.is_alive() and not box.directory.exists()


def test_damage_costs_only_what_is_damaged(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1024)
    run, stranger = offline(600), offline(30)
    box = box_of(run, tmp_path)
    segments = box.segments("scalars")
    assert len(segments) >= 5
    middle = bytearray(segments[2].read_bytes())
    middle[len(middle) // 2] ^= 0x10
    segments[2].write_bytes(middle)
    tail = segments[-1].read_bytes()
    segments[-1].write_bytes(tail[:-9])
    segments[1].unlink()
    copied = segments[-1].with_name("scalars-00000099.seg")
    copied.write_bytes(segments[0].read_bytes())
    foreign = box.directory / "scalars-00000098.seg"
    foreign.write_bytes(box_of(stranger, tmp_path).segments("scalars")[0].read_bytes())
    (box.directory / "scalars-00000097.seg").write_bytes(os.urandom(3000))
    sent = send(box, server)
    assert sent.gaps and sent.damaged > 3000 and sent.foreign == [foreign.name]
    stored = eventually(lambda: server.points(run.id, "v"))
    assert stored == sorted(set(stored)) and set(stored) < set(numbers(600))
    assert stored[0] == 0.0 and 300 < len(stored) < 600
    ended = eventually(lambda: (found := server.run(run.id))["status"] == "ended" and found)
    assert ended["exit_code"] == 3, "the gaps are declared, so the end is known"
    assert (box.directory / "scalars-00000098.foreign").is_file(), "set aside, not deleted"


def test_a_bounded_spool_keeps_the_newest_and_declares_the_rest(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 2048)
    monkeypatch.setenv("NANWATCH_SPOOL_BYTES", "8000")
    run = offline(800)
    sent = send(box_of(run, tmp_path), server)
    stored = eventually(lambda: server.points(run.id, "v"))
    assert stored == numbers(800)[-len(stored) :] and len(stored) < 800
    ended = eventually(lambda: (found := server.run(run.id))["status"] == "ended" and found)
    lost = 800 - len(stored)
    assert sent.gaps > 0 and ended["beat"]["queued"] == 0
    assert run.recorder.dropped == ended["beat"]["dropped"] == {"spool full": lost}
    assert declared(server, run.id) == [("spool full", lost)]


def declared(server: Served, run: str) -> list[tuple[str, int]]:
    """Reason and points of the gaps that the server wrote down."""
    path = server.data_dir / "nanwatch.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute(
            "select reason, points from gaps where run_id = ?", [run]
        ).fetchall()


def test_what_is_dropped_just_before_the_end_is_on_the_page(server: Served) -> None:
    run = nanwatch.init("sync", server=server.url, token=server.token)
    assert isinstance(run, Run) and run.worker.connected.wait(20)
    for number in range(100):
        run.log(v=float(number), w="no number")
    run.finish()
    ended = eventually(lambda: (found := server.run(run.id))["status"] == "ended" and found)
    assert ended["beat"]["dropped"] == {"not a number": 100} and ended["beat"]["queued"] == 0
    assert server.points(run.id, "v") == numbers(100)


def test_the_next_run_sends_what_was_left_for_its_server(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "BACKGROUND_DELAY_S", 0.1)
    monkeypatch.setenv("NANWATCH_TOKEN", "t")
    elsewhere = nanwatch.init("sync", server="http://127.0.0.1:9")
    assert isinstance(elsewhere, Run)
    elsewhere.log(v=1.0)
    elsewhere.finish()
    # This user's own server: meant for whichever run finds it next.
    (tmp_path / "data" / "server.json").write_text(
        json.dumps({"url": server.url, "ingest_token": server.token})
    )
    left = offline(40)
    run = nanwatch.init("sync")
    assert isinstance(run, Run)
    try:
        assert eventually(lambda: not box_of_or_none(left, tmp_path))
        assert server.points(left.id, "v") == numbers(40)
        assert box_of(elsewhere, tmp_path), "never sent to a server it was not meant for"
    finally:
        run.finish()


def box_of_or_none(run: Run, tmp_path: Path) -> Box | None:
    return next((b for b in boxes(tmp_path / "data") if run.id in b.directory.name), None)


# --- the lock ------------------------------------------------------------------------------------


def test_one_of_many_takes_a_lock_and_a_dead_holder_loses_it(tmp_path: Path) -> None:
    taken: list[Lock] = []
    start = threading.Barrier(8)

    def race() -> None:
        mine = Lock(tmp_path / "lock")
        start.wait()
        if mine.take():
            taken.append(mine)

    dead = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True).stdout
    for leave in (None, "cut off", json.dumps({**claim(), "pid": int(dead)})):
        taken.clear()
        (tmp_path / "lock").unlink(missing_ok=True)
        if leave is not None:
            (tmp_path / "lock").write_text(leave)
        if leave == "cut off":  # by a writer that died: nobody knows who, so it must be old
            assert not Lock(tmp_path / "lock").take()
            os.utime(tmp_path / "lock", (0, time.time() - lock.STALE_S - 1))
        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
    taken[0].release()
    assert Lock(tmp_path / "lock").take()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def claim() -> dict[str, Any]:
    return json.loads(Lock(Path("x")).text())


def test_a_lock_of_another_machine_holds_while_it_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({**claim(), "host": "another-machine", "pid": 1}))
    assert not Lock(path).take()
    os.utime(path, (0, time.time() - lock.STALE_S - 1))
    assert Lock(path).take()


@pytest.mark.parametrize("end", ['{"events": "x", "scalars": null}', "[", '"ended"', "{}"])
def test_a_damaged_end_is_no_end(server: Served, tmp_path: Path, end: str) -> None:
    run = offline(20)
    box = box_of(run, tmp_path)
    (box.directory / "end.json").write_text(end)
    (box.directory / "owner.json").unlink()
    assert send(box, server).complete
    assert eventually(lambda: server.points(run.id, "v") == numbers(20))


def test_a_run_is_found_though_a_directory_has_its_name(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = offline(20)
    (tmp_path / run.options.name).mkdir()  # where the script keeps its results
    monkeypatch.chdir(tmp_path)
    command.sync(run.options.name, server=server.url, token=server.token)
    assert eventually(lambda: server.points(run.id, "v") == numbers(20))
