"""Durable state of the server. `sql` is the database, `tail` the newest points in memory."""
