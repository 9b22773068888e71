"""What one client is sent: in order, acknowledgements joined, one wake-up for many calls."""

from __future__ import annotations

import asyncio
import threading

from nanwatch.contract import frames as f
from nanwatch.contract.limits import CLOSE_TOO_MANY
from nanwatch_server.ingest.outbox import OUTBOX_MAX, Outbox, Postbox


def ack(upto: int, lane: f.Lane = "scalars") -> f.Ack:
    return f.Ack(lane=lane, upto=upto, credit=64)


def reject(seq: int) -> f.Reject:
    return f.Reject(lane="scalars", first=seq, last=seq, code="shape", message="")


def all_of(outbox: Outbox) -> list:
    found = []
    while (item := outbox.take()) is not None:
        found.append(item)
    return found


def test_acks_that_follow_each_other_become_one():
    outbox = Outbox()
    for upto in range(5):
        outbox.put(ack(upto))
    assert all_of(outbox) == [ack(4)]


def test_an_ack_passes_neither_a_reject_nor_the_other_lane():
    outbox = Outbox()
    told = [ack(1), reject(2), ack(2), ack(0, "events"), ack(3), (1012, "later")]
    for item in told:
        outbox.put(item)
    assert all_of(outbox) == told


def test_a_client_that_does_not_read_is_sent_away_once():
    outbox = Outbox()
    for seq in range(OUTBOX_MAX + 10):
        outbox.put(reject(seq))
    found = all_of(outbox)
    assert found[:-1] == [reject(seq) for seq in range(OUTBOX_MAX)]
    assert found[-1][0] == CLOSE_TOO_MANY


def test_calls_from_many_threads_arrive_in_order_and_wake_the_loop_seldom():
    async def scenario() -> tuple[dict[int, list[int]], int]:
        loop, wakes = asyncio.get_running_loop(), 0
        came: dict[int, list[int]] = {}
        real = loop.call_soon_threadsafe

        def counted(*args, **kwargs):
            nonlocal wakes
            wakes += 1
            return real(*args, **kwargs)

        loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
        box = Postbox(loop)

        def send(who: int) -> None:
            for number in range(2_000):
                box.send(
                    lambda value: came.setdefault(value[0], []).append(value[1]), (who, number)
                )

        threads = [threading.Thread(target=send, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        # The loop stands still, as it does while it works: what comes meanwhile is one wake-up.
        for thread in threads:
            thread.join()
        until = loop.time() + 10
        while sum(map(len, came.values())) < 8_000 and loop.time() < until:
            await asyncio.sleep(0)
        return came, wakes

    came, wakes = asyncio.run(scenario())
    assert came == {who: list(range(2_000)) for who in range(4)}
    assert wakes < 10


def test_who_waits_is_woken():
    async def scenario() -> f.ServerFrame | tuple[int, str]:
        outbox, box = Outbox(), Postbox(asyncio.get_running_loop())
        threading.Timer(0.05, box.send, (outbox.put, ack(7))).start()
        return await asyncio.wait_for(outbox.get(), 5)

    assert asyncio.run(scenario()) == ack(7)
