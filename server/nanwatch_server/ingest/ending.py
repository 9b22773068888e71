"""How a run ended, written into the journal behind its last points: the exception that ended it is
a mark that rules, back-tests and the page read in the order of the training. Called by
`connection` in the transaction that ends the run.
"""

from __future__ import annotations

import re

import msgspec

from nanwatch.contract.frames import Batch, Mark
from nanwatch_server.domain.labels import EXCEPTION_NOTE
from nanwatch_server.domain.models import DERIVED_EPOCH, RunMark, Stream
from nanwatch_server.domain.ports import UnitOfWork
from nanwatch_server.store.replay import Committed

TEXT_MOST = 2000
_EXCEPTION = re.compile(r"[A-Za-z_]\w*: ")
"""How the SDK says it: the class, then what it said."""


def note_exception(
    uow: UnitOfWork, process: Stream, reason: str, exit_code: int | None, now: float
) -> list[Committed]:
    """Write down the exception (`reason`) that ends the process, if it is one; once, however often
    the process says goodbye. It does not come with the flight recorder's record, since that
    overtakes the last points."""
    run = uow.run(process.run_id)
    if run is None or not exit_code or not _EXCEPTION.match(reason):
        return []
    # the server's own words about this process are a stream of one record
    about = Stream(run_id=run.id, rank=0, epoch=DERIVED_EPOCH - 1 - process.epoch)
    if uow.high_water(about, "events") >= 0:
        return []
    said = reason.rstrip().removesuffix(":")  # an exception may have no text
    text = (EXCEPTION_NOTE + said)[:TEXT_MOST]
    mark = Mark(what="note", step=max(run.last_step, 0), time=now, text=text)
    frame = msgspec.msgpack.encode(Batch(lane="events", first=0, records=[mark]))
    row = uow.append_journal(about, "events", 0, 0, frame, now)
    uow.set_high_water(about, "events", 0)
    uow.add_mark(RunMark(run_id=run.id, what=mark.what, step=mark.step, at=now, text=text, data={}))
    return [Committed(row, about, "events", [mark], {})]
