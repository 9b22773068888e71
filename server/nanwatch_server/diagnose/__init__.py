"""From findings to a named cause with suggestions. Pure functions; no state."""
