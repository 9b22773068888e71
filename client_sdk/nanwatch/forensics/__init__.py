"""Where a non-finite value came from: flight recorder, first bad layer, armed tracing."""
