"""Words by which one part tells another what it saw: labels of evidence, written in `detect` and
read in `diagnose` (what the evidence says is theirs), and beginnings of marks."""

RATE_ROSE = "Learning rate rose"
"""Of every finding after a rise (R rule 17)."""
LEAP = "Over the record before"
"""Of a norm that jumped by decades within one attempt."""
WEIGHTS_LEAPT = "Norm of the weights"
"""Of weights that went further within a few updates than in all before."""
WEIGHTS_GREW = "Norm of the weights since the start"
"""Of weights that are many times as large as they began."""
STATISTICS_MOVED = "Running variance since the best evaluation"
"""Of evaluations while the running statistics of a normalisation layer drift."""
STATISTICS_UNFIT = "Evaluation over training, with running statistics"
"""Of evaluations far worse than training and than an untrained model, of a model that evaluates
with statistics of its own."""
EXCEPTION_NOTE = "exception: "
"""How the text of a mark begins that tells of the exception which ended a training."""
