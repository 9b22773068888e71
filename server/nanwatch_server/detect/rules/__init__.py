"""One file per rule. A rule reads blocks and returns findings; the engine calls it."""
