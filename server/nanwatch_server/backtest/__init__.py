"""Rules over a whole run at once, as they would have judged it live.

The run is a log somebody has, or one of the store with other limits.

`trial` is the engine, `traces` keeps what charts need, `stored` reads runs of the store, `limits`
reads a person's rules. The command line and the API call it; nothing here writes.
"""
