"""One small training a file. `record` finds them by their file names."""
