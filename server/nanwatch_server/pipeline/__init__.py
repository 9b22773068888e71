"""The order of things after COMMIT: tail, live points, rules, findings, incidents, live incidents.

`thread` shows what was committed and hands it on, `judge` holds rules and incidents of each run and
keeps them over restarts, `blocks` cuts tables for the rules, `rulebook` has the limits of each
project. `app` builds it, `ingest` feeds it.
"""

from nanwatch_server.pipeline.judge import Listener
from nanwatch_server.pipeline.rulebook import Rulebook
from nanwatch_server.pipeline.thread import Pipeline

__all__ = ["Listener", "Pipeline", "Rulebook"]
