"""Labels of evidence by which a diagnosis tells what a rule saw. Written in `detect`, read in
`diagnose`; what the evidence says is theirs."""

RATE_ROSE = "Learning rate rose"
"""Of every finding after a rise (R rule 17)."""
LEAP = "Over the record before"
"""Of a norm that jumped by decades within one attempt."""
STATISTICS_MOVED = "Running variance since the best evaluation"
"""Of evaluations while the running statistics of a normalisation layer drift."""
