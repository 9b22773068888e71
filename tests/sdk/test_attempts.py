"""The clock, without torch: which attempts close, how, and who is the main optimizer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanwatch.probes.attempts import (
    ACCUMULATION_MOST,
    APPLIED,
    MAIN_SETTLED_ATTEMPTS,
    TAKEOVER_ATTEMPTS,
    USER_SKIPPED,
    AttemptClock,
    Backward,
)

Q, PI, ALPHA = 0, 1, 2


def backward(*reached: int) -> Backward:
    return Backward(frozenset(reached))


def test_backward_then_step_is_one_applied_attempt() -> None:
    clock = AttemptClock()
    clock.backward(backward(Q))
    attempt = clock.stepped(Q)
    assert (attempt.outcome, attempt.step, attempt.is_main) == (APPLIED, 1, True)
    assert clock.cleared([Q]) == []


def test_clearing_without_a_step_is_a_skip_and_the_clock_runs_on() -> None:
    clock = AttemptClock()
    for n in range(1, 1001):
        clock.backward(backward(Q))
        (attempt,) = clock.cleared([Q])
        assert (attempt.outcome, attempt.step) == (USER_SKIPPED, n)


def test_actor_loss_that_reaches_the_critic_is_no_skip_of_the_critic() -> None:
    clock = AttemptClock()
    for _ in range(10):
        assert clock.cleared([Q]) == []
        clock.backward(backward(Q))
        clock.stepped(Q)
        assert clock.cleared([PI]) == []
        clock.backward(backward(PI, Q))
        actor = clock.stepped(PI)
        assert len(actor.backwards) == 1 and not actor.is_main
    assert clock.step == 10 and clock.main == Q
    assert clock.counts == {Q: 10, PI: 10}


def test_loss_of_two_optimizers_thrown_away_by_both_is_one_skip_of_the_main_one() -> None:
    clock = AttemptClock()
    clock.backward(backward(Q))
    clock.stepped(Q)
    clock.backward(backward(Q, PI))
    assert clock.cleared([PI]) == []
    (attempt,) = clock.cleared([Q])
    assert attempt.outcome == USER_SKIPPED and attempt.optimizer == Q


def test_accumulated_backwards_belong_to_one_attempt() -> None:
    clock = AttemptClock()
    for _ in range(4):
        assert clock.backward(backward(Q)) == []
    assert len(clock.stepped(Q).backwards) == 4


def test_gradients_never_cleared_still_close_attempts() -> None:
    clock = AttemptClock()
    closed = [a for _ in range(ACCUMULATION_MOST * 3) for a in clock.backward(backward(Q))]
    assert len(closed) >= 2 and all(a.outcome == USER_SKIPPED for a in closed)
    assert len(clock.pending) <= ACCUMULATION_MOST


def test_main_stays_main_while_it_goes_on() -> None:
    clock = AttemptClock()
    for _ in range(3 * MAIN_SETTLED_ATTEMPTS):
        clock.stepped(Q)
        for _ in range(3):
            assert not clock.stepped(PI).fit
    assert clock.main == Q and clock.step == 3 * MAIN_SETTLED_ATTEMPTS


def test_next_fold_takes_over_and_opens_a_fit() -> None:
    clock = AttemptClock()
    for _ in range(MAIN_SETTLED_ATTEMPTS):
        clock.stepped(Q)
    fits = [clock.stepped(PI).fit for _ in range(TAKEOVER_ATTEMPTS + 5)]
    assert fits.count(True) == 1 and clock.main == PI
    assert clock.step > MAIN_SETTLED_ATTEMPTS


def test_named_main_is_never_replaced() -> None:
    clock = AttemptClock()
    clock.set_main(PI)
    for _ in range(200):
        clock.stepped(Q)
    assert clock.main == PI and clock.step == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["backward", "step", "clear"]), st.sampled_from([Q, PI])),
        max_size=200,
    )
)
def test_every_backward_is_booked_at_most_once(events: list[tuple[str, int]]) -> None:
    clock = AttemptClock()
    made = booked = 0
    for what, optimizer in events:
        if what == "backward":
            made += 1
            closed = clock.backward(backward(optimizer))
        elif what == "step":
            closed = [clock.stepped(optimizer)]
        else:
            closed = clock.cleared([optimizer])
        booked += sum(len(a.backwards) for a in closed)
    assert booked + len(clock.pending) == made
    assert clock.step <= sum(clock.counts.values())
