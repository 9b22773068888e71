"""Commands inside the training process: accepted, armed, applied once or refused, never late."""

from __future__ import annotations

from nanwatch.contract.commands import ControlOffer
from nanwatch.contract.frames import Command, CommandResult, Go, Revoke
from nanwatch.contract.limits import GO_WINDOW_S
from nanwatch.control.inbox import Inbox

OFFER = ControlOffer(lr=(1e-6, 1e-1), checkpoint=True, stop=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(offer: ControlOffer | None = OFFER) -> tuple[Inbox, Clock]:
    clock = Clock()
    return Inbox(offer, lambda: ({"": 1e-2}, {"": 1e-2}), clock), clock


def scale(number: int = 1, factor: object = 0.1, expires_in: float = 60.0) -> Command:
    args: dict = {"factor": factor}
    return Command(id=f"c{number}", kind="scale_lr", args=args, expires_in=expires_in)


def arm(inbox: Inbox, command: Command) -> None:
    inbox.receive(command)
    (answer,) = inbox.take_frames()
    inbox.receive(Go(id=command.id, nonce=answer.nonce))


def results(inbox: Inbox) -> list[tuple[str, str]]:
    return [(r.id, r.state) for r in inbox.take_results() if isinstance(r, CommandResult)]


def test_nothing_happens_before_go() -> None:
    inbox, _ = make()
    inbox.receive(scale())
    assert not inbox.armed and inbox.take_armed() == []
    (answer,) = inbox.take_frames()
    inbox.receive(Go(id="c1", nonce=answer.nonce + 1))
    assert not inbox.armed, "a foreign nonce must not arm"
    inbox.receive(Go(id="c1", nonce=answer.nonce))
    assert [c.id for c in inbox.take_armed()] == ["c1"]


def test_go_that_comes_late_does_not_arm() -> None:
    inbox, clock = make()
    inbox.receive(scale())
    (answer,) = inbox.take_frames()
    clock.now += GO_WINDOW_S + 0.1
    inbox.receive(Go(id="c1", nonce=answer.nonce))
    assert not inbox.armed and results(inbox) == [("c1", "expired")]


def test_armed_command_expires_when_no_attempt_closes() -> None:
    inbox, clock = make()
    arm(inbox, scale(expires_in=10))
    clock.now += 11
    assert results(inbox) == [("c1", "expired")]
    assert inbox.take_armed() == []


def test_expired_at_the_last_moment_is_not_applied() -> None:
    inbox, clock = make()
    arm(inbox, scale(expires_in=10))
    clock.now += 10.5
    assert inbox.take_armed() == [] and results(inbox) == [("c1", "expired")]


def test_a_command_that_lay_in_a_socket_expires_with_its_go() -> None:
    inbox, clock = make()
    inbox.receive(scale(expires_in=60))
    (answer,) = inbox.take_frames()
    inbox.receive(Go(id="c1", nonce=answer.nonce, expires_in=2))
    clock.now += 3
    assert inbox.take_armed() == [] and results(inbox) == [("c1", "expired")]


def test_a_finished_command_is_never_taken_again() -> None:
    inbox, _ = make()
    arm(inbox, scale())
    (command,) = inbox.take_armed()
    inbox.finish(command.id, "applied", step=7)
    inbox.receive(scale())
    assert inbox.take_frames() == [] and not inbox.armed
    assert results(inbox) == [("c1", "applied")]


def test_repeated_delivery_arms_once() -> None:
    inbox, _ = make()
    inbox.receive(scale())
    inbox.receive(scale())
    first, second = inbox.take_frames()
    assert first.nonce == second.nonce
    for answer in (first, second):
        inbox.receive(Go(id="c1", nonce=answer.nonce))
    assert len(inbox.take_armed()) == 1


def test_revoked_before_go() -> None:
    inbox, _ = make()
    inbox.receive(scale())
    (answer,) = inbox.take_frames()
    inbox.receive(Revoke(id="c1"))
    inbox.receive(Go(id="c1", nonce=answer.nonce))
    assert not inbox.armed and results(inbox) == []


def test_refusals_say_what_was_expected() -> None:
    for offer, factor, words in (
        (None, 0.1, "does not allow"),
        (ControlOffer(stop=True), 0.1, "does not allow"),
        (OFFER, True, "expects a number"),
        (OFFER, float("nan"), "finite number above 0"),
        (OFFER, -1.0, "finite number above 0"),
        (OFFER, 1e-9, "the run allows 1e-06 to 0.1"),
        (OFFER, 1e3, "the run allows 1e-06 to 0.1"),
    ):
        inbox, _ = make(offer)
        inbox.receive(scale(factor=factor))
        assert inbox.take_frames() == []
        (result,) = inbox.take_results()
        assert isinstance(result, CommandResult)
        assert result.state == "rejected" and words in result.message, (factor, result.message)


def test_stop_is_applied_last() -> None:
    inbox, _ = make()
    arm(inbox, Command(id="s", kind="stop", args={}, expires_in=60))
    arm(inbox, scale())
    assert [c.kind for c in inbox.take_armed()] == ["scale_lr", "stop"]
