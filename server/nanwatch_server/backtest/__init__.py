"""Rules over a whole run at once, as they would have judged it live.

The run is a log somebody has, or one of the store with other limits.

`trial` is the engine, `traces` keeps what charts need, `logs` reads logs, `stored` reads runs of
the store, `compare` holds them against the incidents they have. The command line calls these; the
API calls `bench`, which has them done by a process of its own (`child`). Nothing here writes.
"""
